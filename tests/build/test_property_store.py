"""The master property with gc, verify, freed workspaces and a store elsewhere between the edits."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

sys.path.insert(0, str(Path(__file__).parent))
from test_property import Edits

from rvbuild.build.garbage import choose, remove
from rvbuild.build.inventory import find_roots, take_inventory
from rvbuild.build.remote import Remote
from rvbuild.build.verify import verify
from rvbuild.build.workspace import Workspace
from rvbuild.progress import Silent


class EditsAndStore(Edits):
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
        for name in workspace.state.records():
            workspace.state.clean(name, "freed")
        workspace.close()

    @rule(folder=st.sampled_from(["", "renamed", "größe 'x'"]))
    def rename_the_inputs(self, folder: str) -> None:
        """Names of files and folders are no part of any key."""
        texts = {name: self.space.source(name).read_text() for name in "abc"}
        for name in "abc":
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
        shutil.rmtree(self.space.root / "cache" / "store", ignore_errors=True)

    @rule()
    def push_and_pull(self) -> None:
        workspace = Workspace(self.space.root)
        elsewhere = str(self.base / "remote")
        Remote(elsewhere).push(workspace.store, take_inventory(workspace.store).actions, Silent())
        remote = Remote(elsewhere)
        remote.pull(workspace.store, sorted(remote.keys), Silent())
        workspace.close()


EditsAndStore.TestCase.settings = settings(
    max_examples=30, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEditsAndStore = EditsAndStore.TestCase
