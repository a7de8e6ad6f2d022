"""What a chaos test runs in processes of their own: builds of fake stages, and everything that works on a store."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import fsspec.implementations.local  # noqa: F401 - imported once, for all forks
from conftest import Space
from doit import doit_cmd  # noqa: F401

from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.upkeep import garbage
from rvbuild.engine.upkeep.inventory import find_roots, take_inventory
from rvbuild.engine.upkeep.verify import verify
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.progress import Silent


def _interrupt(_signum, _frame) -> None:
    raise KeyboardInterrupt


def make_space(root: Path, options: dict) -> Space:
    if options["on"]:
        from cluster_space import ClusterSpace

        space: Space = ClusterSpace(root, options["on"])
    else:
        space = Space(root, pool=options["pool"])
    space.settings = options["settings"]
    return space


def do(words: list[str]) -> int:
    """Do one command: its name, the workspace, and a JSON object."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    name, root, options = words[0], Path(words[1]), json.loads(words[2])
    with locked(root, print):
        return _COMMANDS[name](root, options)


def _run(root: Path, options: dict) -> int:
    space = make_space(root, options)
    result = space.run(jobs=options["jobs"], keep_going=True)
    print("\n".join(space.recorder.lines))
    return 0 if set(result.values()) <= {"built", "restored", "fresh"} else 1


def _gc(root: Path, options: dict) -> int:
    workspace = Workspace(root)
    with workspace.store.alone():
        workspace.sweep()
        roots = find_roots(workspace)
        inventory = take_inventory(workspace.store)
        list(garbage.remove(workspace.store, garbage.choose(workspace.store, inventory, roots, grace=-1.0, max_size=0)))
    workspace.close()
    return 0


def _push(root: Path, options: dict) -> int:
    workspace = Workspace(root)
    moved = RemoteStore(options["remote"]).push(workspace.store, take_inventory(workspace.store).actions, Silent())
    workspace.close()
    return len(moved.problems)


def _pull(root: Path, options: dict) -> int:
    workspace = Workspace(root)
    remote = RemoteStore(options["remote"])
    moved = remote.pull(workspace.store, sorted(remote.keys), Silent())
    workspace.close()
    return len(moved.problems)


def _verify(root: Path, options: dict) -> int:
    workspace = Workspace(root)
    problems = verify(workspace.store, root, workspace.state.records().values(), Silent())
    workspace.close()
    return 0 if problems.is_good() else 1


def _free(root: Path, options: dict) -> int:
    """Remove what the workspace shows and say so, as `clean --keep-cache` does."""
    workspace = Workspace(root)
    for name, record in workspace.state.records().items():
        for output in record.outputs.values():
            (root / output.path).unlink(missing_ok=True)
        workspace.state.clean(name, "freed")
    workspace.close()
    return 0


_COMMANDS = {"run": _run, "gc": _gc, "push": _push, "pull": _pull, "verify": _verify, "free": _free}
