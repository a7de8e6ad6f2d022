"""`rvbuild clean`: remove the artifacts of stages and forget them, so that they are built again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from rvbuild.cli.report import duration, size_text
from rvbuild.cli.terminal import echo
from rvbuild.engine.history.versions import Name
from rvbuild.engine.store.state import Record
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.errors import UsageError, counted, nearest
from rvbuild.project.model import Project
from rvbuild.rules.experiments.folds import STAGE as FOLDS
from rvbuild.session import seals
from rvbuild.session.experiments.points import FILE, POINTS
from rvbuild.session.experiments.remove import LIVE, remove_logs
from rvbuild.session.forget import forget
from rvbuild.session.names import CLEANED, stages_of
from rvbuild.session.own_stages import own_stages
from rvbuild.session.projects import load_available
from rvbuild.session.session import open_session

#: Maximum number of listed artifacts of a project without --verbose.
_LISTED = 20


def clean(words: Sequence[str], keep_cache: bool, yes: bool, verbosity: int) -> int:
    """Clean the stages among `words` (default: all) in the projects among them (default: all in `projects/`).

    With `keep_cache`, only the workspace is cleaned, and the next build restores the files from the store. Otherwise
    the user is asked if no project is named and several have something to remove, unless `yes`.
    """
    stages = [w for w in words if not w.endswith(".toml")]
    every = [*CLEANED, *own_stages(words)]
    valid = list(dict.fromkeys(s for stage in every for s in (*stages_of(stage), stage)))
    for stage in stages:
        if stage not in valid:
            raise UsageError(f"clean {stage}: no such stage{nearest(stage, valid)} (stages: {', '.join(valid)})")
    selected = [s for stage in stages or every for s in stages_of(stage)]

    def notify(line: str) -> None:
        if verbosity >= 0:
            echo(line)

    paths_named = [w for w in words if w.endswith(".toml")]
    projects = load_available(paths_named, (), notify)
    if not (paths_named or keep_cache or yes) and not _agreed(projects, stages, selected):
        echo("nothing was removed", err=True)
        return 1
    with locked(projects[0].workspace, notify), open_session(projects, notify=notify) as session:
        for project in projects:
            names = [
                name
                for name in sorted({*session.plan.artifacts, *session.workspace.state.records()})
                if _is_of(name, project.name, selected)
            ]
            records = {name: session.workspace.state.record(name) for name in names}
            removed = {name: forget(session, name, keep_cache) for name in names}
            removed = {name: paths for name, paths in removed.items() if paths}
            action = (
                f"{', '.join(stages) or 'everything'} {'removed, kept in the store' if keep_cache else 'forgotten'}"
            )
            lost = [record for name in removed if (record := records[name]) is not None]
            cost = f"; to build them again: {_work(lost)}" if lost and not keep_cache else ""
            notify(f"{project.name}: {action}, {counted(sum(map(len, removed.values())), 'file')} removed{cost}")
            for i, (name, paths) in enumerate(removed.items()):
                if verbosity > 0:
                    notify("\n".join(f"  {path}" for path in paths))
                elif i < _LISTED:
                    record = records[name]
                    sizes = {o.path: o.size for o in record.outputs.values()} if record else {}
                    notify(f"  {_places(paths)}  ({size_text(sum(sizes.get(p, 0) for p in paths))})")
            if verbosity == 0 and len(removed) > _LISTED:
                notify(f"  … and {counted(len(removed) - _LISTED, 'more artifact')} (-v lists all files)")
            if not stages and (points := list((session.workspace.cache / project.name).glob(f"{POINTS}/*/{FILE}"))):
                notify(
                    f"{project.name}: {counted(len(points), 'point')} of sweeps stay; `rvbuild exp rm` removes points"
                )
            if FOLDS in selected:
                for left in (session.workspace.cache / project.name / FOLDS).glob(f"*/{LIVE}"):
                    remove_logs(session.workspace.cache, f"{project.name}/{FOLDS}/{left.parent.name}")
        seals.remove_all(session.workspace.cache)
        session.workspace.renew_lease()
    return 0


def _agreed(projects: Sequence[Project], stages: Sequence[str], selected: Sequence[str]) -> bool:
    """Tell whether all of `projects` may be cleaned; the user is asked if several have something to remove.

    Raises
    ------
    UsageError
        Nobody can be asked.
    """
    workspace = Workspace(projects[0].workspace)
    try:
        shown = {name: record for name, record in workspace.state.records().items() if not record.cleaned}
    finally:
        workspace.close()
    lines = []
    for project in projects:
        concerned = [record for name, record in shown.items() if _is_of(name, project.name, selected)]
        if concerned:
            several = "s" if len(concerned) > 1 else ""
            lines.append(f"  {project.name}: {len(concerned)} artifact{several}, {_work(concerned)}")
    if len(lines) < 2:
        return True
    warning = f"this removes {', '.join(stages) or 'everything'} in {len(lines)} projects, with all earlier results:"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        example = " ".join(["rvbuild clean", *stages, "projects/PROJECT.toml"])
        lines += [f"name the stages and projects (`{example}`), or add --yes"]
        raise UsageError("\n".join([f"clean: {warning}", *lines]))
    echo("\n".join([warning, *lines]), err=True)
    return click.confirm("remove them all?", default=False, err=True)


def _work(records: Iterable[Record]) -> str:
    """Return the time that the builds of `records` took, in words."""
    return f"about {duration(sum(record.seconds for record in records))} of work"


def _places(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    folder = paths[0].rpartition("/")[0]
    return f"{folder}/{{{', '.join(p.rpartition('/')[2] for p in paths[:4])}{', …' if len(paths) > 4 else ''}}}"


def _is_of(name: str, project: str, stages: Sequence[str]) -> bool:
    parts = Name.of(name)
    if parts.project.startswith(f"{project}/{FOLDS}/"):  # all stages of its folds
        return FOLDS in stages
    return parts.stage in stages and parts.project == project
