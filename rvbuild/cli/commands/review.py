"""`rvbuild review`: labels that are probably wrong, verdicts about them, and labels with these applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from rvbuild.cli.commands import build as build_command
from rvbuild.cli.report import from_here
from rvbuild.session.reviewing import write as reviews
from rvbuild.session.session import Session


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
    raise NotImplementedError


def _write(session: Session, trust: bool) -> list[str]:
    """Write what users see of the suspects of each project; return what there is, and where."""
    lines = []
    for project in session.projects:
        reviewed = reviews.write(session, project, trust)
        named = f"{project.name}: " if len(session.projects) > 1 else ""
        lines += [f"  {named}{line}" for line in reviewed.lines()]
        lines += [f"  {from_here(reviewed.folder / name)}" for name in ("review.html", "review.qgz", "suspects.gpkg")]
    return lines
