"""What workspaces say in a store that they share, so that the gc of each keeps what the others show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rvbuild.engine.store import leases as module
from rvbuild.engine.store.leases import LEASE_S, Lease, Standing, leases
from rvbuild.engine.upkeep.garbage import choose, remove
from rvbuild.engine.upkeep.inventory import find_roots, take_inventory
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError

DAY = 24 * 3600.0


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("RVBUILD_STORE", str(tmp_path / "shared"))
    return tmp_path / "shared"


def made(new_space, prefix: str):
    space = new_space()
    for name in "abc":
        space.write(name, prefix + name)
    space.run()
    return space


def gc(space, now: float | None = None) -> list[str]:
    """Remove all that the workspaces do not show; return the keys that went."""
    workspace = Workspace(space.root)
    with workspace.store.alone():
        roots = find_roots(workspace, now)
        drops = choose(workspace.store, take_inventory(workspace.store), roots, max_size=0, grace=-1.0, now=now)
        list(remove(workspace.store, drops))
    workspace.close()
    return [d.name for d in drops]


def the_lease(space) -> Lease:
    workspace = Workspace(space.root)
    (match,) = [lease for lease in leases(workspace.store) if lease.file == workspace.lease.file]
    workspace.close()
    return match


def restores(space) -> bool:
    """Tell whether all that the workspace showed comes back from the store."""
    shutil.rmtree(space.root / "cache/p")
    return set(space.run().values()) == {"restored"}


def test_what_a_workspace_of_another_machine_shows_stays(store, new_space, monkeypatch):
    away = made(new_space, "away")
    with monkeypatch.context() as other:
        other.setattr(module, "_HOST", "elsewhere")
        here = made(new_space, "here")
        shutil.move(away.root, away.root.with_name("not on this machine"))
        standings = {lease.path: lease.standing(time.time()) for lease in leases(Workspace(here.root).store)}
        assert standings == {str(away.root): Standing.AWAY, str(here.root): Standing.HERE}
        assert gc(here) == []
        shutil.move(away.root.with_name("not on this machine"), away.root)
    assert restores(away)
    monkeypatch.setattr(module, "_HOST", "elsewhere")
    lease = the_lease(here)
    assert gc(here, time.time() + LEASE_S - DAY) == []
    assert len(gc(here, time.time() + LEASE_S + DAY)) == 5  # of what was away: it did not renew its lease
    assert lease.keys == the_lease(here).keys


def test_a_workspace_that_is_gone_is_told_from_one_whose_disk_is_not_mounted(store, new_space):
    here, other = made(new_space, "here"), made(new_space, "other")
    lease = the_lease(other)
    shutil.rmtree(other.root)
    now = time.time()
    assert lease.standing(now) is Standing.GONE
    unmounted = Lease(lease.file, lease.host, lease.path, lease.device + 1, lease.used)
    assert unmounted.standing(now) is Standing.AWAY
    assert unmounted.standing(now + LEASE_S) is Standing.EXPIRED
    assert len(gc(here)) == 5


def test_a_lease_says_what_the_workspace_shows_at_any_time(store, new_space):
    space = made(new_space, "x")
    first = the_lease(space)
    assert len(first.keys) == 5
    assert gc(made(new_space, "x")) == []
    space.write("a", "other")
    space.run("upper:p:a")
    now = the_lease(space)
    assert len(now.keys - first.keys) == 1  # and no line for the one that it replaced
    assert len(now.keys) == 5
    workspace = Workspace(space.root)
    workspace.state.clean("join:p", "for a test")
    workspace.renew_lease()
    workspace.close()
    assert len(the_lease(space).keys) == 4
    os.utime(the_lease(space).file, (0, 0))
    space.run()
    assert time.time() - the_lease(space).used < 60


def test_a_lease_that_was_taken_away_comes_back(store, new_space):
    """A gc elsewhere took the workspace for expired while it worked."""
    space = made(new_space, "x")
    workspace, _, builder, _ = space.opened()
    workspace.sweep()
    record = workspace.state.record("join:p")
    workspace.lease.file.unlink()
    workspace.lease.add("join:p", record)  # known already
    assert not workspace.lease.file.exists()
    workspace.lease.add("other:p", record)
    assert len(the_lease(space).keys) == 5
    builder._executor.close()
    workspace.close()


def test_half_a_line_is_no_obstacle(store, new_space):
    space = made(new_space, "x")
    lease = the_lease(space)
    text = lease.file.read_bytes()
    lease.file.write_bytes(text[:-20])
    assert len(the_lease(space).keys) == 4
    space.write("a", "other")
    space.run()
    assert len(the_lease(space).keys) == 5
    lease.file.write_bytes(b'{"host": ')
    with pytest.raises(StoreError, match=r"\.jsonl: cannot read which results a workspace uses: .*remove the file"):
        gc(made(new_space, "y"))


def test_a_workspace_whose_own_store_others_use_needs_no_lease(new_space, monkeypatch):
    owner = made(new_space, "owner")
    monkeypatch.setenv("RVBUILD_STORE", str(owner.root / "cache/store"))
    guest = made(new_space, "guest")
    assert gc(guest) == []
    monkeypatch.delenv("RVBUILD_STORE")
    assert gc(owner) == []
    assert restores(owner)
    (owner.root / "cache/state.db").unlink()
    monkeypatch.setenv("RVBUILD_STORE", str(owner.root / "cache/store"))
    with pytest.raises(StoreError, match=r"holds artifacts, but the state database has no record of them"):
        gc(guest)


BUILD = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from conftest import Space
    from rvbuild.engine.store import leases
    from rvbuild.engine.workspace import locked

    leases._HOST = "another-machine"
    space = Space(Path({root!r}))
    for number in range({rounds}):
        for name in "abc":
            space.write(name, f"{{name}} {{number % 3}}")
        with locked(space.root, print):
            done = space.run(keep_going=True)
        assert set(done.values()) <= {{"built", "restored", "fresh"}}, space.outcomes
        expected = "|".join(f"{{name}} {{number % 3}}" for name in "ABC") + "!"
        assert (space.root / "cache/p/last/joined.txt").read_text() == expected
    """
)


@pytest.mark.slow
def test_gc_while_another_workspace_builds(store, new_space):
    """A gc that spares nothing, again and again: no build fails, and what is shown in the end is all in the store."""
    here, there = made(new_space, "here"), new_space()
    script = BUILD.format(tests=str(Path(__file__).parent), root=str(there.root), rounds=12)
    build = subprocess.Popen([sys.executable, "-c", script])
    gone = 0
    while build.poll() is None:
        gone += len(gc(here))
    assert build.wait() == 0
    assert gone > 0  # earlier results of the other one, which it built again
    gc(here)
    assert restores(there)
    assert restores(here)
