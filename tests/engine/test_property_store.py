"""The master property with gc, verify, freed workspaces, a store elsewhere and another workspace between the edits."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Space
from test_property import NAMES, TEXTS, WISHED, Edits, mended

from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.upkeep.garbage import choose, remove
from rvbuild.engine.upkeep.inventory import find_roots, take_inventory
from rvbuild.engine.upkeep.verify import verify
from rvbuild.engine.workspace import Workspace
from rvbuild.progress import Silent


class EditsAndStore(Edits):
    @initialize(shared=st.booleans())
    def share(self, shared: bool) -> None:
        """Have the store used by another workspace, too, or not."""
        if shared:
            os.environ["RVBUILD_STORE"] = str(self.base / "shared")
        self.neighbour = Space(self.base / "neighbour")
        for name in "abc":
            self.neighbour.write(name, name)

    @precondition(lambda self: "RVBUILD_STORE" in os.environ)
    @rule(name=NAMES, text=TEXTS, forced=st.booleans())
    def the_neighbour_builds(self, name: str, text: str, forced: bool) -> None:
        self.neighbour.write(name, text)
        self.neighbour.run(keep_going=True, forced=frozenset([f"upper:p:{name}"] if forced else []))

    @precondition(lambda self: "RVBUILD_STORE" in os.environ)
    @rule()
    def the_neighbour_collects_garbage(self) -> None:
        """Remove all that may go: nothing of what we show, if we have said so since we were moved."""
        ours, theirs = Workspace(self.space.root), Workspace(self.neighbour.root)
        before = take_inventory(theirs.store)
        shown = {o.digest for r in ours.state.records().values() for o in r.outputs.values()}
        told = ours.lease is not None and ours.lease.file.exists()
        drops = choose(theirs.store, before, find_roots(theirs), max_size=0, grace=-1.0)
        list(remove(theirs.store, drops))
        after = take_inventory(theirs.store)
        assert set(after.broken()) <= set(before.broken())
        if told:
            assert shown & set(before.objects) <= set(after.objects)
        ours.close()
        theirs.close()

    @rule(max_size=st.sampled_from([None, 0, 3000]), stop=st.integers(0, 12))
    def gc(self, max_size: int | None, stop: int) -> None:
        """Collect garbage, killed after `stop` removals or not at all."""
        workspace = Workspace(self.space.root)
        store = workspace.store
        before = take_inventory(store)
        roots = find_roots(workspace)
        drops = choose(store, before, roots, max_size=max_size, grace=-1.0)
        assert not {d.name for d in drops} & (roots.keys | roots.digests)
        if stop < 6:
            for path in [p for d in drops for p in d.paths][:stop]:
                path.unlink(missing_ok=True)
        else:
            list(remove(store, drops))
        after = take_inventory(store)
        assert set(after.broken()) <= set(before.broken())
        assert roots.digests & set(before.objects) == roots.digests & set(after.objects)
        if stop >= 6:
            assert before.size() - after.size() == sum(d.size for d in drops)
        workspace.close()

    @rule()
    def verify(self) -> None:
        workspace = Workspace(self.space.root)
        verify(workspace.store, workspace.root, workspace.state.records().values(), Silent())
        again = verify(workspace.store, workspace.root, workspace.state.records().values(), Silent())
        assert (again.damaged, again.healed) == ((), ())
        workspace.close()

    @rule()
    def free_the_workspace(self) -> None:
        workspace = Workspace(self.space.root)
        shutil.rmtree(self.space.root / "cache" / "p", ignore_errors=True)
        with mended():
            for name in workspace.state.records():
                workspace.state.clean(name, "freed")
        workspace.close()

    @rule(folder=st.sampled_from(["", "renamed", "größe 'x'"]))
    def rename_the_inputs(self, folder: str) -> None:
        """Names of files and folders are no part of any key."""
        texts = {name: self.space.source(name).read_text() for name in "abc" if self.space.source(name).exists()}
        for name in texts:
            self.space.source(name).unlink()
        self.space.folder = folder
        (self.space.root / folder).mkdir(exist_ok=True)
        for name, text in texts.items():
            self.space.write(name, text)

    @rule(on=st.booleans())
    def use_a_store_elsewhere(self, on: bool) -> None:
        """Have builds take what is lacking from where `push_and_pull` sends it."""
        self.space.remote = str(self.base / "remote") if on else None

    @rule()
    def lose_the_store(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)

    @rule()
    def push_and_pull(self) -> None:
        workspace = Workspace(self.space.root)
        address = str(self.base / "remote")
        RemoteStore(address).push(workspace.store, take_inventory(workspace.store).actions, Silent())
        remote = RemoteStore(address)
        remote.pull(workspace.store, sorted(remote.keys), Silent())
        workspace.close()


EditsAndStore.TestCase.settings = settings(
    max_examples=WISHED or 25,
    stateful_step_count=30 if WISHED else 14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEditsAndStore = pytest.mark.slow(EditsAndStore.TestCase)
