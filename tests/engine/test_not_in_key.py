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


@pytest.fixture
def growing(space, monkeypatch):
    """join writes into the file that grows, too."""
    usual = space.artifacts

    def artifacts():
        by_label = {a.label(): a for a in usual()}
        by_label["join"] = dataclasses.replace(by_label["join"], live="cache/p/live/log.txt", run="fakestages:grows")
        return list(by_label.values())

    with (space.root / "fakestages.py").open("a") as file:
        file.write(
            "\ndef grows(inputs, settings, outputs, progress, live=None):\n"
            "    (outputs / 'joined.txt').write_text('joined')\n"
            "    live is None or live.write_text('grown')\n"
        )
    monkeypatch.setattr(space, "artifacts", artifacts)
    return space


def test_a_file_that_grows_is_no_output(growing):
    assert set(growing.run().values()) == {"built"}
    grown = growing.root / "cache/p/live/log.txt"
    assert grown.read_text() == "grown"
    grown.unlink()
    assert set(growing.states().values()) == {"fresh"}


def test_a_stage_runs_without_the_file_that_grows_if_a_link_is_in_the_way(growing, tmp_path):
    (growing.root / "cache/p").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (growing.root / "cache/p/live").symlink_to(tmp_path / "elsewhere")
    assert set(growing.run().values()) == {"built"}
    assert list((tmp_path / "elsewhere").iterdir()) == []
