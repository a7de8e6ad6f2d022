"""A store is checked, and healed from what the workspace shows."""

from __future__ import annotations

import pytest

from rvbuild.engine.upkeep.verify import verify
from rvbuild.engine.workspace import Workspace
from rvbuild.progress import Silent


@pytest.fixture
def workspace(space):
    space.run()
    made = Workspace(space.root)
    yield made
    made.close()


def check(workspace):
    return verify(workspace.store, workspace.root, workspace.state.records().values(), Silent())


def spoil(workspace, artifact: str) -> str:
    (output,) = workspace.state.record(artifact).outputs.values()
    path = workspace.store.object(output.digest)
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    return output.digest


def test_a_good_store(workspace):
    problems = check(workspace)
    assert problems.is_good()
    assert problems.contents == 5


def test_a_damaged_content_is_put_back_from_the_workspace(workspace):
    digest = spoil(workspace, "last:p")
    problems = check(workspace)
    assert (problems.damaged, problems.healed, dict(problems.broken)) == ((digest,), (digest,), {})
    assert [p.read_bytes() for p in (workspace.store.root / "quarantine").iterdir()] == [b"rotten"]
    assert check(workspace).is_good()


def test_what_cannot_be_healed_is_reported_and_built_again(space, workspace):
    digest = spoil(workspace, "last:p")
    key = workspace.state.record("last:p").key
    (space.root / "cache/p/last/joined.txt").unlink()
    problems = check(workspace)
    assert (problems.damaged, problems.healed, dict(problems.broken)) == ((digest,), (), {key: ["joined.txt"]})
    again = check(workspace)
    assert (again.damaged, dict(again.broken)) == ((), {key: ["joined.txt"]})
    assert space.run()["last"] == "built"
    assert check(workspace).is_good()


def test_a_missing_content_is_put_back_and_an_unreadable_record_reported(workspace):
    record = workspace.state.record("join:p")
    (output,) = record.outputs.values()
    workspace.store.object(output.digest).unlink()
    bad = workspace.store.action_file(workspace.state.record("last:p").key)
    bad.write_text("{")
    problems = check(workspace)
    assert (problems.damaged, problems.healed, problems.unreadable) == ((), (output.digest,), (bad,))
