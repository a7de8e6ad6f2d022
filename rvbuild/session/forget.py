"""Removal of artifacts: their outputs, results and checkpoints."""

from __future__ import annotations

from rvbuild.engine.keys.artifact import Artifact, trajectory
from rvbuild.engine.run import live
from rvbuild.engine.store import inside
from rvbuild.engine.workspace import is_output_path
from rvbuild.session.session import Session


def forget(session: Session, name: str, keep_cache: bool = False) -> list[str]:
    """Remove the outputs of the artifact `name` and its stored results; return the removed paths.

    The results in the store are removed first, then the files, then the record: after a kill in between, cleaning again
    completes the removal.
    """
    workspace = session.workspace
    state, store, cache = workspace.state, workspace.store, workspace.cache
    record = state.record(name)
    artifact = session.plan.artifacts.get(name)
    if not keep_cache:
        if artifact is not None and artifact.resume_ignores is not None:
            _forget_checkpoints(session, artifact)
        for key in filter(inside.is_plain, state.keys(name)):
            store.forget(key)
    removed = []
    for output in record.outputs.values() if record else ():
        if is_output_path(output.path) and inside.remove(cache, workspace.placed(output.path), folders=True):
            removed.append(output.path)
    if artifact is not None and not keep_cache:
        removed += live.removed(workspace, artifact)
    state.clean(name, "rvbuild clean --keep-cache" if keep_cache else "rvbuild clean")
    return removed


def _forget_checkpoints(session: Session, artifact: Artifact) -> None:
    record = session.workspace.state.record(artifact.name)
    parts = [record.components] if record is not None and record.components else []
    planned = session.plan[artifact.name].facts
    if planned.key is not None:
        parts.append(planned.components)
    for components in parts:
        session.workspace.store.forget_resume(trajectory(components, artifact.resume_ignores or ()))
