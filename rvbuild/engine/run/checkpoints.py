"""The checkpoints of a stage, used only if they were made from the inputs in its key.

An input may be edited while its stage runs, and reverted. When a stage has ended, its inputs are checked, and the
checkpoints are removed if one has changed. A killed command cannot do that. Therefore a file beside the checkpoints
records the state of the inputs while the stage runs: the next run uses the checkpoints only if that state is unchanged,
including the change times of inodes, which reverting does not restore.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

from rvbuild.engine.run.inputs import Inputs
from rvbuild.engine.store import inside
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError

INPUTS = "inputs.json"
"""The file with the state of the inputs of the running stage."""

_MOST_BYTES = 64 << 20


class Checkpoints:
    """The checkpoints of the trajectory `trajectory` in `store`, whose lock is held."""

    def __init__(self, store: Store, trajectory: str) -> None:
        self.folder = store.resume(trajectory)
        self._store = store
        self._trajectory = trajectory
        self._path = f"resume/{trajectory}/{INPUTS}"
        with inside.folder(store.root, f"resume/{trajectory}", make=True):
            pass

    @contextlib.contextmanager
    def made_from(self, inputs: Inputs, note: Callable[[str], None]) -> Iterator[None]:
        """Run a stage that starts with `inputs`; they are checked when it has ended successfully.

        Checkpoints that may come from other inputs are removed: before the stage, with a note, those of a killed run;
        after a stage that fails or is interrupted, its own.
        """
        seen = inputs.seen()
        if not self._are_made_from(seen):
            self._forget(note)
        self._store.write(self._path, json.dumps(seen).encode())
        try:
            yield
        except BaseException:
            if inputs.have_changed():
                self._store.forget_resume(self._trajectory)
            inside.remove(self._store.root, self._path)
            raise
        inside.remove(self._store.root, self._path)

    def _are_made_from(self, seen: dict[str, list[object]]) -> bool:
        """Tell whether no run was killed since these checkpoints were created, or its inputs had the state `seen`."""
        try:
            content = inside.read(self._store.root, self._path, _MOST_BYTES)
        except FileNotFoundError:
            return True
        except (OSError, ValueError, StoreError):
            return False
        try:
            return bool(json.loads(content) == seen)
        except (ValueError, RecursionError):
            return False

    def _forget(self, note: Callable[[str], None]) -> None:
        if any(entry.name != INPUTS for entry in self.folder.iterdir()):
            note(
                "the checkpoints of an interrupted run are not used: an input changed after that run began, so they "
                "may come from other data; starting over"
            )
        self._store.forget_resume(self._trajectory)
        with inside.folder(self._store.root, f"resume/{self._trajectory}", make=True):
            pass
