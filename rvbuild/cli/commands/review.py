"""`rvbuild review`: labels that are probably wrong, verdicts about them, and labels with these applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import click

from rvbuild.cli.commands import build as build_command
from rvbuild.cli.report import from_here
from rvbuild.cli.terminal import echo
from rvbuild.engine.workspace import locked
from rvbuild.errors import UsageError, counted
from rvbuild.session.projects import load_all, project_paths
from rvbuild.session.reviewing import write as reviews
from rvbuild.session.reviewing.apply import apply_verdicts
from rvbuild.session.session import Session

COMMAND = "review"


def review(
    words: Sequence[str],
    options: build_command.Options,
    verdicts: Path | None = None,
    in_place: bool = False,
    into: Path | None = None,
) -> int:
    """Find suspects of the projects in `words`, or apply verdicts about them; return the exit status."""
    if verdicts is None:
        if in_place or into is not None:
            raise click.UsageError("--in-place and -o belong to --apply: rvbuild review --apply FILE PROJECT.toml")
        return build_command.build(
            reviews.STAGE, words, options, None, lambda session: _write(session, options.trust), reviews.ALSO
        )
    if in_place and into is not None:
        raise click.UsageError("expected either --in-place or -o, found both")
    if unused := [flag for flag, value in _BUILDING.items() if getattr(options, value)]:
        raise click.UsageError(f"{unused[0]} does not apply with --apply, which builds nothing")
    return _apply(words, options, verdicts, in_place, into)


_BUILDING = {
    "--scene": "scenes",
    "-j": "jobs",
    "--procs": "procs",
    "-k": "keep_going",
    "-B": "always_make",
    "--json": "as_json",
}
"""Options of building."""

_MOST_LINES = 50


def _apply(
    words: Sequence[str], options: build_command.Options, verdicts: Path, in_place: bool, into: Path | None
) -> int:
    paths = project_paths(words)
    if len(paths) > 1:
        names = ", ".join(map(str, paths))
        raise UsageError(f"rvbuild review --apply is for one project; name one of {names}")
    (project,) = load_all(paths, options.overrides)
    say = echo if options.verbosity >= 0 else lambda _: None
    with locked(project.workspace, say):
        applied = apply_verdicts(
            project, verdicts, in_place=in_place, into=into, dry_run=options.dry_run, trust=options.trust
        )
    shown = applied.lines if options.verbosity > 0 else applied.lines[:_MOST_LINES]
    for line in shown:
        say(f"  {line}")
    if len(applied.lines) > len(shown):
        say(f"  … and {len(applied.lines) - len(shown):,} more (-v lists all)")
    if applied.unsaved:
        say(f"{counted(applied.unsaved, 'verdict')} of unsaved_verdicts.json, beside {verdicts.name}, counted as well")
    if applied.already:
        say(f"{counted(len(applied.already), 'verdict')} already applied")
    if applied.written is None:
        say(f"would change {counted(len(applied.lines), 'label')}" if applied.lines else "nothing to do")
        return 0
    say(f"{counted(len(applied.lines), 'label')} changed in")
    for path in applied.written.files:
        say(f"  {from_here(path)}")
    if applied.written.backup is not None:
        say(f"as they were before: {from_here(applied.written.backup)}")
        say(f"next: rvbuild review {quote(str(paths[0]))}, which judges the new labels and keeps verdicts")
    else:
        say("these are copies: compare them, put them in place of the labels, or use --in-place")
    return 0


def _write(session: Session, trust: bool) -> list[str]:
    """Write what users see of the suspects of each project; return what there is, and where."""
    lines = []
    for project in session.projects:
        reviewed = reviews.write(session, project, trust)
        named = f"{project.name}: " if len(session.projects) > 1 else ""
        lines += [f"  {named}{line}" for line in reviewed.lines()]
        lines += [f"  {from_here(reviewed.folder / name)}" for name in ("review.html", "review.qgz", "suspects.gpkg")]
    return lines
