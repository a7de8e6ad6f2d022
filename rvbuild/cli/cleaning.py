"""`rvbuild clean`: remove the artifacts of stages and forget them, so that they are built again."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rvbuild.build.artifact import Artifact, trajectory
from rvbuild.build.workspace import locked
from rvbuild.cli import STAGES
from rvbuild.cli.session import Session, load_all, project_paths, session
from rvbuild.errors import UsageError, nearest


def clean(words: Sequence[str], verbosity: int) -> int:
    """Clean the stages (all if none) of the projects (every one in `projects/` if none) among `words`."""
    stages = [w for w in words if not w.endswith(".toml")]
    for stage in stages:
        if stage not in STAGES:
            raise UsageError(f"clean {stage}: no such stage{nearest(stage, STAGES)} (stages: {', '.join(STAGES)})")
    projects = load_all(project_paths([w for w in words if w.endswith(".toml")]), ())

    def say(line: str) -> None:
        if verbosity >= 0:
            click.echo(line)

    with locked(projects[0].workspace, say), session(projects, say=say) as now:
        for project in projects:
            names = [
                name
                for name in sorted({*now.plan.artifacts, *now.workspace.state.records()})
                if _is_of(name, project.name, stages or STAGES)
            ]
            removed = [path for name in names for path in forget(now, name)]
            what = ", ".join(stages) or "everything"
            say(f"{project.name}: {what} forgotten, {len(removed)} files removed")
            if verbosity > 0:
                say("\n".join(f"  {path}" for path in removed))
    return 0


def _is_of(name: str, project: str, stages: Sequence[str]) -> bool:
    stage, _, rest = name.partition(":")
    return stage in stages and rest.partition(":")[0] == project


def forget(now: Session, name: str) -> list[str]:
    """Remove what the artifact `name` shows and forget how it was built; return the paths that were removed."""
    state, store, root = now.workspace.state, now.workspace.store, now.workspace.root
    record = state.record(name)
    artifact = now.plan.artifacts.get(name)
    if artifact is not None and artifact.resume_ignores is not None:
        _forget_checkpoints(now, artifact)
    removed = []
    for output in record.outputs.values() if record else ():
        path = root / output.path
        if path.exists():
            path.unlink()
            removed.append(output.path)
        folder = path.parent
        while folder != now.workspace.cache and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    for key in state.clean(name):
        store.forget(key)
    return removed


def _forget_checkpoints(now: Session, artifact: Artifact) -> None:
    record = now.workspace.state.record(artifact.name)
    parts = [record.components] if record is not None and record.components else []
    planned = now.plan[artifact.name].facts
    if planned.key is not None:
        parts.append(planned.components)
    for components in parts:
        now.workspace.store.forget_resume(trajectory(components, artifact.resume_ignores or ()))
