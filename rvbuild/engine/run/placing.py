"""Outputs on their way into the workspace: what is there already, what was just made, and what the store has."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.plan.plan import Planned
from rvbuild.engine.run.made import File
from rvbuild.engine.store import inside
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.copies import put
from rvbuild.engine.store.state import Output, Record
from rvbuild.engine.workspace import Workspace, is_output_path


def intact(workspace: Workspace, artifact: Artifact, planned: Planned) -> dict[str, Output]:
    """Return the outputs of the last build that are in place, by name."""
    return {n: o for n, o in _outputs(planned).items() if not _is_damaged(workspace, artifact, n, o)}


def _outputs(planned: Planned) -> Mapping[str, Output]:
    old = planned.facts.record
    return {} if old is None else old.outputs


def show(
    workspace: Workspace,
    artifact: Artifact,
    planned: Planned,
    action: Action,
    files: Mapping[str, File] | None = None,
) -> Record | None:
    """Put all outputs of `action` in place and remove obsolete ones; `writing` is held.

    Of `files`, which were just made, there are copies.
    """
    if artifact.undeclared(action.outputs):
        return None
    outputs: dict[str, Output] = {}
    before, there = _outputs(planned), intact(workspace, artifact, planned)
    for name, (value, _) in action.outputs.items():
        if name in there and there[name].digest == value:
            outputs[name] = there[name]
            continue
        path, cache = workspace.placed(artifact.shown(name)), workspace.cache
        file = (files or {}).get(name)
        if file is not None and file.copy is not None:
            outputs[name] = put(file.copy, value, cache, path, cache / "tmp", file.is_linked)
            continue
        output = workspace.store.place(value, cache, path, cache / "tmp")
        if output is None:
            return None
        outputs[name] = output
    obsolete = {o.path for o in before.values()} | _forgotten(workspace, artifact, planned)
    obsolete -= {o.path for o in outputs.values()}
    if obsolete:
        # Except files that now belong to another artifact.
        records = workspace.state.records().items()
        obsolete -= {o.path for name, record in records if name != artifact.name for o in record.outputs.values()}
    for path in filter(is_output_path, obsolete):
        inside.remove(workspace.cache, workspace.placed(path))
    facts = planned.facts
    record = Record(
        key=action.key,
        components=facts.components,
        sources=facts.sources,
        outputs=outputs,
        seconds=action.seconds,
        at=time.time(),
        packages=action.packages,
        trajectory=action.trajectory,
    )
    if workspace.lease is not None:
        workspace.lease.add(artifact.name, record)
    return record


def _forgotten(workspace: Workspace, artifact: Artifact, planned: Planned) -> set[str]:
    """Return the paths of files that the artifact may have written, and that its record would tell of if it were there.

    The database of records may have been lost since.
    """
    if planned.facts.record is not None or artifact.writes == _ANYTHING:
        return set()
    names = list(artifact.rename)
    if not names:  # artifacts of many scenes in one folder have other names there
        with contextlib.suppress(OSError):
            names = artifact.declared(path.name for path in (workspace.root / artifact.folder).iterdir())
    return {path for path in map(artifact.shown, names) if (workspace.root / path).is_file()}


_ANYTHING = ("*",)
"""What a stage writes that does not say what."""


def _is_damaged(workspace: Workspace, artifact: Artifact, name: str, output: Output) -> bool:
    now = signature(f"{workspace.root}/{output.path}")
    return now is None or output.path != artifact.shown(name) or not output.is_as_placed(now)


def remove(copies: Iterable[Path]) -> None:
    """Remove copies of outputs that were not needed, or that nobody needs after a failure."""
    for copy in copies:
        copy.unlink(missing_ok=True)
