from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from rvbuild.engine.keys.artifact import ContentDigest

ALL = ["upper:a", "upper:b", "upper:c", "join", "last"]


def did(result: dict[str, str], state: str) -> set[str]:
    return {label for label, done in result.items() if done == state}


def test_first_build_builds_everything_and_the_second_nothing(space):
    assert did(space.run(), "built") == set(ALL)
    assert space.calls() == ["upper", "upper", "upper", "join", "join"]
    assert (space.root / "cache/p/last/joined.txt").read_text() == "A|B|C!"
    assert did(space.run(), "fresh") == set(ALL)
    assert space.calls() == []


def test_an_edit_rebuilds_what_rests_on_it_and_says_why(space):
    space.run()
    space.write("b", "other")
    assert space.states() == {
        "upper:a": "fresh",
        "upper:b": "stale",
        "upper:c": "fresh",
        "join": "waiting",
        "last": "waiting",
    }
    assert space.reasons["upper:b"] == ["text changed: b.txt"]
    assert space.reasons["join"] == ["waits for upper:b"]
    assert did(space.run(), "built") == {"upper:b", "join", "last"}
    assert [str(r) for r in space.outcomes["join"].reasons] == ["part/b changed (upper:b)"]


def test_equal_output_cuts_off(space):
    space.run()
    space.calls()
    space.write("b", "B")  # upper() gives the same bytes
    assert did(space.run(), "built") == {"upper:b"}
    assert space.calls() == ["upper"]


def test_a_revert_restores_everything(space):
    space.run()
    space.write("b", "other")
    space.run()
    space.calls()
    space.write("b", "b")
    assert set(space.states().values()) == {"fresh", "restorable"}
    assert did(space.run(), "restored") == {"upper:b", "join", "last"}
    assert space.calls() == []
    assert (space.root / "cache/p/last/joined.txt").read_text() == "A|B|C!"


def test_a_touch_does_nothing(space):
    space.run()
    space.calls()
    os.utime(space.root / "a.txt")
    os.utime(space.root / "cache/p/joined.txt")
    assert did(space.run(), "fresh") == set(ALL)
    assert space.calls() == []


def test_equal_size_edit_with_kept_mtime_is_seen(space):
    space.write("a", "abcd")
    space.run()
    before = (space.root / "a.txt").stat()
    space.write("a", "abce")
    os.utime(space.root / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "upper:a" in did(space.run(), "built")


def test_settings_and_versions_are_reasons(space):
    space.run()
    space.settings["upper"]["prefix"] = "x"
    states = space.states()
    assert states["upper:a"] == "stale"
    assert space.reasons["upper:a"] == ['prefix: "" → "x"']
    space.settings["upper"]["prefix"] = ""
    space.version = 2
    space.states()
    assert space.reasons["upper:a"] == ["the stage upper changed: version 1 → 2"]


def test_deleted_and_edited_outputs_are_healed_from_the_store(space):
    space.run()
    space.calls()
    (space.root / "cache/p/upper/a/out.txt").unlink()
    (space.root / "cache/p/last/joined.txt").write_text("edited")
    assert space.states() | {} == {
        "upper:a": "restorable",
        "upper:b": "fresh",
        "upper:c": "fresh",
        "join": "fresh",
        "last": "restorable",
    }
    assert space.reasons["last"] == ["cache/p/last/joined.txt was edited"]
    assert did(space.run(), "restored") == {"upper:a", "last"}
    assert space.calls() == []
    assert (space.root / "cache/p/last/joined.txt").read_text() == "A|B|C!"


def test_a_corrupt_object_is_quarantined_and_its_artifact_rebuilt(space):
    space.run()
    space.calls()
    shown = space.root / "cache/p/last/joined.txt"
    for path in (space.root / "cache/store/objects").rglob("*"):
        if path.is_file() and path.read_bytes() == shown.read_bytes():
            path.chmod(0o644)
            path.write_bytes(b"rotten")  # of equal length: only its content tells
    shown.unlink()
    assert did(space.run(), "built") == {"last"}
    assert any("quarantine" in line for line in space.recorder.lines)
    assert shown.read_text() == "A|B|C!"
    assert len(list((space.root / "cache/store/quarantine").iterdir())) == 1


def test_outputs_that_are_no_longer_made_are_removed(space):
    space.settings["upper"]["extra"] = True
    space.run()
    extra = space.root / "cache/p/upper/a/extra.txt"
    assert extra.exists()
    del space.settings["upper"]["extra"]
    space.run()
    assert not extra.exists()
    space.settings["upper"]["extra"] = True
    assert did(space.run(), "restored") == {"upper:a", "upper:b", "upper:c"}  # out.txt did not change: join is fresh
    assert extra.exists()


def test_a_failure_stops_and_is_remembered_and_retried(space):
    space.write("b", "fail")
    result = space.run(keep_going=True)
    assert result == {
        "upper:a": "built",
        "upper:b": "failed",
        "upper:c": "built",
        "join": "skipped",
        "last": "skipped",
    }
    assert space.outcomes["upper:b"].message == "the text says fail"
    assert space.states()["upper:b"] == "failed"
    assert space.reasons["upper:b"][0] == "failed: the text says fail"
    space.write("b", "b")
    assert space.states()["upper:b"] == "missing"
    assert did(space.run(), "built") == {"upper:b", "join", "last"}


def test_without_keep_going_nothing_begins_after_a_failure(space):
    space.write("a", "fail")
    result = space.run()
    assert result["upper:a"] == "failed"
    assert did(result, "built") == set()
    assert did(result, "skipped") == set(ALL) - {"upper:a"}


def test_a_failed_rebuild_keeps_the_old_result(space):
    space.run()
    space.write("b", "fail")
    space.run()
    assert (space.root / "cache/p/upper/b/out.txt").read_text() == "B"
    space.write("b", "b")
    assert did(space.run(), "fresh") == set(ALL)


def test_forced_builds_run_again(space):
    space.run()
    space.calls()
    result = space.run(forced=frozenset({"join:p"}))
    assert did(result, "built") == {"join"}
    assert space.calls() == ["join"]


def test_views_cut_off_cosmetic_edits(space):
    space.view = ContentDigest("fakestages:view")
    space.run()
    space.calls()
    space.write("a", "a # a remark")
    assert set(space.states().values()) == {"fresh"}
    assert did(space.run(), "fresh") == set(ALL)
    space.write("a", "z # a remark")
    assert did(space.run(), "built") == {"upper:a", "join", "last"}


def test_a_moved_workspace_keeps_its_keys(space, tmp_path):
    space.run()
    space.calls()
    moved = tmp_path / "else where"
    space.root.rename(moved)
    space.root = moved
    result = space.run()
    assert did(result, "built") == set()
    assert space.calls() == []


def test_a_damaged_state_database_is_begun_again_from_the_store(space):
    space.run()
    space.calls()
    for suffix in ("", "-wal", "-shm"):
        (space.root / f"cache/state.db{suffix}").unlink(missing_ok=True)
    (space.root / "cache/state.db").write_bytes(b"this is not a database" * 100)
    assert did(space.run(), "restored") == set(ALL)
    assert space.calls() == []
    assert list((space.root / "cache").glob("state.db.damaged-*"))


def test_each_file_is_hashed_once_per_change(space):
    space.run()
    workspace, plan, _, _ = space.opened()
    plan.examine(plan.artifacts.values())
    assert workspace.prints.hashed <= 3  # only what was written within 20 ms of its hashing
    workspace.close()


def test_a_plan_asks_the_database_as_often_for_many_scenes_as_for_few(new_space):
    """Content digests and failures of all artifacts are read at once."""
    asked = []
    for count in (3, 12):
        space = new_space()
        space.scenes = [f"s{number}" for number in range(count)]
        space.view = ContentDigest("fakestages:view")
        for scene in space.scenes:
            space.write(scene, scene)
        space.states()  # computes the digests
        workspace, plan, builder, _ = space.opened()
        statements: list[str] = []
        workspace.state._db.set_trace_callback(statements.append)
        plan.examine(plan.artifacts.values())
        assert [plan[name].decision.state.value for name in plan.artifacts] == ["missing"] * (count + 2)
        asked.append(len(statements))
        builder._executor.close()
        workspace.close()
    assert asked[0] == asked[1] < 5


def test_parallel_and_serial_builds_agree(new_space):
    serial, parallel = new_space(), new_space()
    for made in (serial, parallel):
        for name in "abc":
            made.write(name, name)
    serial.run(jobs=1)
    parallel.run(jobs=4)
    assert serial.shown() == parallel.shown()


def test_keys_do_not_depend_on_where_or_when(new_space):
    keys = []
    for _ in range(2):
        made = new_space()
        for name in "abc":
            made.write(name, name)
        made.run()
        with contextlib.closing(sqlite3.connect(made.root / "cache/state.db")) as db, db:
            keys.append(sorted(db.execute("select artifact, json_extract(json, '$.key') from record")))
        db.close()
    assert keys[0] == keys[1]


def test_no_temporary_files_are_left(space):
    space.run()
    left = [p for p in Path(space.root / "cache").rglob("*") if p.parent.name == "tmp"]
    assert left == []
