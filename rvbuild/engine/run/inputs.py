"""The inputs of an artifact while its stage runs: their state before it starts, and whether it is unchanged.

Equal content before and after proves nothing: a file may have been edited and reverted in between, for example by
checking out another branch, and the stage may have read the other content. Therefore the stat signatures are compared:
any write changes them, and so does a touch.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact, Product, Source
from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.engine.plan.decide import Facts, State
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.plan.products import files_of, selected
from rvbuild.engine.run.made import Seen
from rvbuild.engine.store.fingerprint import Stamp
from rvbuild.engine.store.state import Output
from rvbuild.errors import StageError
from rvbuild.files.address import is_url
from rvbuild.files.identity import Identity


class Inputs:
    """The inputs of `artifact`, recorded before its stage starts.

    Raises
    ------
    StageError
        An input differs from the key in `facts`, that is, from its state when the run was planned.
    """

    def __init__(self, plan: Plan, artifact: Artifact, facts: Facts) -> None:
        self._plan = plan
        self._label = artifact.label()
        self._prints = plan.workspace.prints
        self._stamps: dict[str, Stamp] = {}
        self._files: list[Path] = []  # which may get new sidecars
        self._outputs: list[tuple[str, Output, str]] = []  # as put in place: path, output, label of its artifact
        self._ignored: set[str] = set()  # sidecars that do not change the meaning of a file
        self._elsewhere: dict[str, tuple[str, int]] = {}  # outputs that are only in a store: path -> digest, size
        for item in artifact.inputs:
            if isinstance(item, Source):
                self._see_source(item, facts)
            else:
                self._see_product(item)

    def expected(self) -> dict[str, Seen | None]:
        """Return the state in which the stage must find the local files, before and after; None: no such file."""
        states: dict[str, Seen | None] = {}
        for path, (state, _) in self._stamps.items():
            if isinstance(state, Signature):
                states[path] = (state.size, state.mtime_ns, state.inode, state.ctime_ns)
            elif state is None and not is_url(path):
                states[path] = None
        for path, output, _ in self._outputs:
            states[path] = (output.size, output.mtime_ns, output.inode, output.ctime_ns)
        return states

    def contents(self) -> dict[str, tuple[str, int]]:
        """Return the digest and the size of each local file that the stage reads."""
        contents = dict(self._elsewhere)
        for path, (state, _) in self._stamps.items():
            if isinstance(state, Signature) and path not in self._ignored:
                digest = self._prints.digest(path)
                assert digest is not None
                contents[path] = digest, state.size
        return contents | {path: (output.digest, output.size) for path, output, _ in self._outputs}

    def check(self, seen: Collection[str] | None = None) -> None:
        """Raise if an input has changed since.

        Parameters
        ----------
        seen
            The local files that the process which ran the stage has found changed. Default: they are examined here.

        Raises
        ------
        StageError
        """
        for path in self._changed(seen):
            self._prints.forget(path)
            raise StageError(
                f"{self._plan.workspace.show(path)} changed while {self._label} was built from it{self._why(path)}: "
                "nothing was stored; run again"
            )
        for file in self._files:
            if newcomer := self._plan.appeared(file):
                raise StageError(
                    f"{self._shown(newcomer)}, which belongs to {self._shown(file)}, appeared while {self._label} was "
                    "built from it: nothing was stored; run again"
                )
        for path, output, origin in self._outputs:
            if not self._is_as_placed(path, output) if seen is None else path in seen:
                raise StageError(
                    f"{output.path}, built by {origin}, changed while {self._label} read it: nothing was stored; run "
                    "again"
                )

    def seen(self) -> dict[str, list[object]]:
        """Return the state of the inputs before the stage started, as JSON data; it changes when one is written to.

        Paths are relative to the workspace, so that it can be moved.
        """
        states: dict[str, list[object]] = {}
        for path, stamp in self._stamps.items():
            state = stamp.state
            if isinstance(state, Identity):
                states[path] = [state.digest, state.changed]
            elif isinstance(state, Signature):
                states[os.path.relpath(path, self._plan.workspace.root)] = [*state, stamp.digest]
            else:
                states[path] = []
        for _, output, _ in self._outputs:
            states[output.path] = [output.size, output.mtime_ns, output.ctime_ns, output.inode]
        return states

    def have_changed(self) -> bool:
        """Tell whether an input has changed since."""
        try:
            self.check()
        except StageError:
            return True
        return False

    def _changed(self, seen: Collection[str] | None) -> list[str]:
        if seen is None:
            return self._prints.changed(self._stamps)
        asked = {path: stamp for path, stamp in self._stamps.items() if is_url(path) or stamp.digest is not None}
        return [*(path for path in self._stamps if path in seen), *self._prints.changed(asked)]

    def _is_as_placed(self, path: str, output: Output) -> bool:
        now = signature(path)
        return now is not None and output.is_as_placed(now)

    def _why(self, path: str) -> str:
        note = self._prints.note(path)
        return f" ({note})" if note else ""

    def _shown(self, path: object) -> str:
        return self._plan.workspace.show(str(path))

    def _see_source(self, source: Source, facts: Facts) -> None:
        prints = self._prints
        paths = [str(path) for i in range(len(source.files)) for path in files_of(source, i)]
        self._stamps |= {path: prints.stamp(path) for path in paths}
        self._stamps |= {str(path): Stamp(seen) for path, seen in source.ignored_sidecars}
        self._ignored.update(str(path) for path, _ in source.ignored_sidecars)
        self._files += source.files if source.passed else ()
        changed: object = self._plan.differing(source, facts)
        if changed is None and not source.passed:
            # Workers keep the modules that they have imported since the start of the run.
            changed = next((path for path in paths if prints.has_moved_on(path)), None)
        if changed is not None:
            shown = self._shown(changed)
            raise StageError(
                f"{shown} changed after this run began and before {self._label} was built from it: run again"
            )
        for file in source.files if source.passed else ():
            if path := self._plan.appeared(file):
                raise StageError(
                    f"{self._shown(path)}, which belongs to {self._shown(file)}, appeared after this run began and "
                    f"before {self._label} was built from it: run again"
                )

    def _see_product(self, product: Product) -> None:
        origin = self._plan.artifacts[product.artifact]
        planned = self._plan[product.artifact]
        if planned.decision.state is State.RESTORABLE and planned.outputs is not None:
            for name in selected(product, planned.outputs):
                self._elsewhere[f"{self._plan.workspace.root}/{origin.shown(name)}"] = planned.outputs[name]
            return
        record = planned.facts.record
        outputs = record.outputs if record else {}
        for name in selected(product, outputs):
            output = outputs[name]
            path = f"{self._plan.workspace.root}/{output.path}"
            if self._is_as_placed(path, output):
                self._outputs.append((path, output, origin.label()))
                continue
            self._stamps[path] = self._prints.stamp(path)
            if self._prints.digest(path) != output.digest:
                raise StageError(
                    f"{output.path}, built by {origin.label()}, changed before {self._label} was built from it: run "
                    "again"
                )
