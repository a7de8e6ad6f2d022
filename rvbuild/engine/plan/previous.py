"""The previous result of an artifact: a hint to its stage that may save work but must not change a byte.

It is offered if it was built from the same inputs as the new one, except those that the artifact allows to differ, and
only with the files that are unchanged in the workspace. The stage returns the names of the files that it reuses, which
are neither written, hashed nor copied again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.artifact import Artifact, canonical
from rvbuild.engine.keys.signature import hash_file, signature
from rvbuild.engine.plan.decide import Facts
from rvbuild.engine.store.state import Output
from rvbuild.engine.store.store import Store
from rvbuild.errors import StageError


def offered(artifact: Artifact, facts: Facts, packages: Mapping[str, str], root: Path) -> dict[str, Output]:
    """Return the files of the previous result that the stage may use, by name; usually there are none.

    Parameters
    ----------
    artifact, facts
        The artifact to build, and the components of its key.
    packages
        The current versions.
    root
        The records of the workspace.
    """
    record = facts.record
    if artifact.previous_ignores is None or facts.forced or record is None or record.cleaned:
        return {}
    before, now = (_without(parts, artifact.previous_ignores) for parts in (record.components, facts.components))
    if before != now or dict(record.packages) != dict(packages):
        return {}
    return {name: output for name, output in record.outputs.items() if _is_intact(artifact, name, output, root)}


def reused(
    artifact: Artifact, result: Any, offer: Mapping[str, Output], staged: Sequence[str], root: Path
) -> list[str]:
    """Return the names of the reused outputs, which the stage returned as its `result`.

    Raises
    ------
    StageError
        The stage names files that it cannot know, or a file of the previous result has changed while it ran.
    """
    if not offer:
        return []
    names = sorted(result or ())
    wrong = [name for name in names if name not in offer or name in staged]
    if wrong:
        raise StageError(
            f"the stage {artifact.stage} reuses {', '.join(wrong)}, which is not part of its previous result"
        )
    for name, output in offer.items():
        if not _is_intact(artifact, name, output, root):
            raise StageError(
                f"{output.path} changed while {artifact.label()} was built from its previous result: nothing was "
                "stored; run again"
            )
    return names


def put_back(store: Store, output: Output, root: Path, scratch: Path) -> None:
    """Put a reused file into the store if the store no longer has it."""
    if store.has(output.digest, output.size):
        return
    shutil.copyfile(root / output.path, scratch)
    if hash_file(scratch) != output.digest:
        raise StageError(f"{output.path} has changed since it was built, and the store no longer has it; run again")
    store.take(scratch, output.digest)


def _without(parts: Mapping[str, Any], roles: Sequence[str]) -> Any:
    """Return the components of a key without the inputs of some roles."""
    inputs = [item for item in parts.get("inputs", ()) if item[0] not in roles]
    return json.loads(canonical({**parts, "inputs": inputs}))


def _is_intact(artifact: Artifact, name: str, output: Output, root: Path) -> bool:
    now = signature(f"{root}/{output.path}")
    return now is not None and output.path == artifact.shown(name) and output.is_as_placed(now)
