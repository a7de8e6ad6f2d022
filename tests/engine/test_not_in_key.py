"""What a stage reads and what is not in its key: outputs beside those that count, and files that are only watched."""

from __future__ import annotations

import dataclasses

import pytest

from rvbuild.engine.keys.artifact import Source


@pytest.fixture
def reader(space, monkeypatch):
    """join reads all of upper:a and the file c.txt, but what counts is out.txt alone."""
    usual = space.artifacts

    def artifacts():
        by_label = {a.label(): a for a in usual()}
        part = dataclasses.replace(by_label["join"].inputs[0], unkeyed=("extra*",))
        watched = Source("watched", (space.source("c"),), in_key=False)
        by_label["join"] = dataclasses.replace(
            by_label["join"], inputs=(part, watched), hints={"more": {"end": "?"}}, run="fakestages:reads"
        )
        return [by_label[label] for label in ("upper:a", "join", "last")]

    stages = (space.root / "fakestages.py").read_text()
    meddle = 'getattr(inputs["watched"][0], "write_text")("meddled") if inputs["watched"][0].read_text() == "M" else 0'
    (space.root / "fakestages.py").write_text(
        stages
        + "\ndef reads(inputs, settings, outputs, progress):\n"
        + "    names = [path.name for path in inputs['part/a']]\n"
        + "    (outputs / 'joined.txt').write_text(inputs['part/a'][-1].read_text() + settings['more']['end'])\n"
        + "    (outputs / 'names.txt').write_text(' '.join(names))\n"
        + f"    {meddle}\n"
    )
    space.settings["upper"]["extra"] = True
    monkeypatch.setattr(space, "artifacts", artifacts)
    return space


def test_is_given_to_the_stage_and_changes_no_key(reader):
    assert set(reader.run().values()) == {"built"}
    shown = reader.shown()
    assert shown["names.txt"] == b"extra.txt out.txt" and shown["joined.txt"] == b"A?"
    reader.write("c", "other")
    assert set(reader.states().values()) == {"fresh"}
    reader.settings["upper"]["extra"] = False  # another output of upper:a, but out.txt is as it was
    assert reader.run() == {"upper:a": "built", "join": "fresh", "last": "fresh"}
    reader.write("a", "b")
    assert reader.run() == {"upper:a": "built", "join": "built", "last": "built"}
    assert reader.shown()["names.txt"] == b"out.txt"
    assert [str(r) for r in reader.outcomes["join"].reasons] == ["part/a changed (upper:a)"]


def test_a_change_meanwhile_is_found(reader):
    reader.write("c", "M")
    assert reader.run()["join"] == "failed"
    assert "c.txt changed while join was built from it" in reader.outcomes["join"].message
    assert reader.run()["join"] == "built"
