"""Versions of artifacts, and how two of them differ."""

from __future__ import annotations

from rvbuild.engine.history.compare import Comparer, Comparison
from rvbuild.engine.history.versions import Name, numbered, versions
from rvbuild.engine.workspace import Workspace


def compare(space, name: str, old: int = 1, new: int = 0) -> Comparison:
    workspace = Workspace(space.root)
    try:
        history = versions(workspace.state, name)
        artifacts = {a.name: a for a in space.artifacts()}
        return Comparer(workspace.state, workspace.store, artifacts).compare(name, history[old].key, history[new].key)
    finally:
        workspace.close()


def lines(comparison: Comparison) -> list[str]:
    own = [f"{comparison.artifact.label()}: {reason}" for reason in comparison.reasons]
    return own + [line for below in comparison.below for line in lines(below)]


def test_a_name_is_taken_apart():
    assert Name.of("chip:pots%3Adam:2%2F10") == Name("chip", "pots:dam", "2/10")
    assert Name.of("train:p").label() == "train"


def test_versions_are_contents_not_runs(space):
    space.run()
    space.write("b", "other")
    space.run()
    (space.root / "cache/p/joined.txt").unlink()
    space.run()  # restored under the same key: no new version
    space.write("b", "b")
    space.run()
    workspace = Workspace(space.root)
    history = versions(workspace.state, "join:p")
    log = [(entry.event, number) for entry, number in numbered(workspace.state.log("join:p"))]
    workspace.close()
    assert [v.number for v in history] == [0, 1, 2]
    assert history[0].key == history[2].key != history[1].key
    assert log == [("restored", 0), ("restored", 1), ("built", 1), ("built", 2)]


def test_failures_and_cleaning_are_logged(space):
    space.write("a", "fail")
    space.run(keep_going=True)
    workspace = Workspace(space.root)
    workspace.state.clean("upper:p:b", "rvbuild clean")
    workspace.state.clean("upper:p:b", "rvbuild clean")
    entries = [(e.event, e.artifact, e.reasons) for e in workspace.state.log() if e.event != "built"]
    assert workspace.state.keys("upper:p:b")
    workspace.close()
    assert entries == [
        ("cleaned", "upper:p:b", ("rvbuild clean",)),
        ("failed", "upper:p:a", ("the text says fail",)),
    ]


def test_differences_are_followed_to_the_edited_file(space):
    space.run()
    space.write("b", "other")
    space.settings["last"]["end"] = "?"
    space.run()
    assert lines(compare(space, "last:p")) == [
        'last: end: "!" → "?"',
        "last: part/x changed (join)",
        "join: part/b changed (upper:b)",
        "upper:b: text changed: b.txt",
    ]
    assert lines(compare(space, "last:p", 0, 0)) == []


def test_added_and_removed_inputs(space):
    space.scenes = ["a", "b"]
    space.run()
    space.scenes = ["b", "c"]
    space.run()
    assert lines(compare(space, "join:p")) == ["join: part/a is no longer needed", "join: part/c was added (upper:c)"]


def test_what_gc_took_is_not_known(space):
    space.run()
    space.write("b", "other")
    space.run()
    workspace = Workspace(space.root)
    workspace.store.forget(versions(workspace.state, "join:p")[1].key)
    workspace.close()
    assert not compare(space, "join:p").known
