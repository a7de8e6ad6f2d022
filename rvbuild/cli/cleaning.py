"""`rvbuild clean`: remove the artifacts of stages and forget them, so that they are built again."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rvbuild.build import inside
from rvbuild.build.artifact import Artifact, trajectory
from rvbuild.build.history import Name
from rvbuild.build.workspace import is_output_path, locked
from rvbuild.cli import CLEANED, stages_of
from rvbuild.cli.report import size_text
from rvbuild.cli.session import Session, load_known, session
from rvbuild.errors import UsageError, nearest

#: How many artifacts of a project are listed without --verbose.
_LISTED = 20


def clean(words: Sequence[str], keep_cache: bool, verbosity: int) -> int:
    """Clean the stages (all if none) of the projects (every one in `projects/` if none) among `words`.

    With `keep_cache` the files go and the store keeps what they hold, so that the next build restores them.
    """
    stages = [w for w in words if not w.endswith(".toml")]
    known = list(dict.fromkeys(s for stage in CLEANED for s in stages_of(stage)))
    for stage in stages:
        if stage not in known:
            raise UsageError(f"clean {stage}: no such stage{nearest(stage, known)} (stages: {', '.join(known)})")
    meant = [s for stage in stages or CLEANED for s in stages_of(stage)]

    def say(line: str) -> None:
        if verbosity >= 0:
            click.echo(line)

    projects = load_known([w for w in words if w.endswith(".toml")], (), say)
    with locked(projects[0].workspace, say), session(projects, say=say) as now:
        for project in projects:
            names = [
                name
                for name in sorted({*now.plan.artifacts, *now.workspace.state.records()})
                if _is_of(name, project.name, meant)
            ]
            records = {name: now.workspace.state.record(name) for name in names}
            removed = {name: forget(now, name, keep_cache) for name in names}
            removed = {name: paths for name, paths in removed.items() if paths}
            what = f"{', '.join(stages) or 'everything'} {'removed, kept in the store' if keep_cache else 'forgotten'}"
            say(f"{project.name}: {what}, {sum(map(len, removed.values()))} files removed")
            for i, (name, paths) in enumerate(removed.items()):
                if verbosity > 0:
                    say("\n".join(f"  {path}" for path in paths))
                elif i < _LISTED:
                    record = records[name]
                    sizes = {o.path: o.size for o in record.outputs.values()} if record else {}
                    say(f"  {_places(paths)}  ({size_text(sum(sizes.get(p, 0) for p in paths))})")
            if verbosity == 0 and len(removed) > _LISTED:
                say(f"  … and {len(removed) - _LISTED} more artifacts (-v lists all files)")
        now.workspace.renew_lease()
    return 0


def _places(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    folder = paths[0].rpartition("/")[0]
    return f"{folder}/{{{', '.join(p.rpartition('/')[2] for p in paths[:4])}{', …' if len(paths) > 4 else ''}}}"


def _is_of(name: str, project: str, stages: Sequence[str]) -> bool:
    parts = Name.of(name)
    return parts.stage in stages and parts.project == project


def forget(now: Session, name: str, keep_cache: bool = False) -> list[str]:
    """Remove what the artifact `name` shows and forget how it was built; return the paths that were removed.

    The store forgets first, then the files go, then the state says so: killed in between, cleaning again does the rest.
    """
    workspace = now.workspace
    state, store, cache = workspace.state, workspace.store, workspace.cache
    record = state.record(name)
    artifact = now.plan.artifacts.get(name)
    if not keep_cache:
        if artifact is not None and artifact.resume_ignores is not None:
            _forget_checkpoints(now, artifact)
        for key in filter(inside.is_plain, state.keys(name)):
            store.forget(key)
    removed = []
    for output in record.outputs.values() if record else ():
        if is_output_path(output.path) and inside.remove(cache, workspace.placed(output.path), folders=True):
            removed.append(output.path)
    state.clean(name, "rvbuild clean --keep-cache" if keep_cache else "rvbuild clean")
    return removed


def _forget_checkpoints(now: Session, artifact: Artifact) -> None:
    record = now.workspace.state.record(artifact.name)
    parts = [record.components] if record is not None and record.components else []
    planned = now.plan[artifact.name].facts
    if planned.key is not None:
        parts.append(planned.components)
    for components in parts:
        now.workspace.store.forget_resume(trajectory(components, artifact.resume_ignores or ()))
