"""Forgets artifacts: what they show, and how they were built."""

from __future__ import annotations

from rvbuild.engine.keys.artifact import Artifact, trajectory
from rvbuild.engine.store import inside
from rvbuild.engine.workspace import is_output_path
from rvbuild.session.session import Session


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
