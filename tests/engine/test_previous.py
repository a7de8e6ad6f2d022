"""The previous result of an artifact as a hint: when it is offered, what may be kept, and that nothing stale is."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from .conftest import Space

STAGE = '''

def words(inputs, settings, outputs, progress, previous=None):
    """Write each word of a text to a file of its own."""
    previous = previous or {}
    _called("offered " + " ".join(sorted(previous)))
    kept = []
    for number, word in enumerate(view(inputs["text"], {}).split()):
        name = f"{number}.txt"
        text = settings["prefix"] + word
        if name in previous and previous[name].read_text() == text:
            kept.append(name)
        else:
            (outputs / name).write_text(text)
    (outputs / "count.txt").write_text(str(number))
    if "MEDDLE" in text:
        previous["0.txt"].write_text("edited meanwhile")
    return [*kept, "unknown"] if "LIE" in text else kept
'''


class Words(Space):
    """A workspace with one artifact, `upper:a`, that keeps what it can."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.scenes = ["a"]
        with (root / "fakestages.py").open("a") as file:
            file.write(STAGE)

    def artifacts(self):
        (made, *_) = super().artifacts()
        return [dataclasses.replace(made, run="fakestages:words", previous_ignores=("text",))]

    def build(self, text: str | None = None, **options) -> tuple[str, str]:
        """Build; return what was done and which files were offered."""
        if text is not None:
            self.write("a", text)
        did = self.run("upper:p:a", **options)["upper:a"]
        return did, " ".join(self.calls()).removeprefix("offered").strip()

    def text(self) -> str:
        folder = self.root / "cache/p/upper/a"
        return " ".join(path.read_text() for path in sorted(folder.iterdir()) if path.name != "count.txt")

    def place(self, name: str) -> Path:
        return self.root / "cache/p/upper/a" / name


@pytest.fixture
def words(tmp_path: Path) -> Words:
    return Words(tmp_path / "ws")


def test_files_that_stay_are_neither_written_nor_copied(words):
    assert words.build("one two three") == ("built", "")
    inode = words.place("2.txt").stat().st_ino
    assert words.build("one other three") == ("built", "0.txt 1.txt 2.txt count.txt")
    assert words.text() == "one other three"
    assert words.place("2.txt").stat().st_ino == inode
    assert words.states() == {"upper:a": "fresh"}


@pytest.mark.slow
def test_what_was_kept_is_restored_as_all_else(words):
    words.build("one two three")
    words.build("one other three")
    words.build("four")
    assert words.build("one other three") == ("restored", "")
    assert words.text() == "one other three"


@pytest.mark.slow
def test_a_changed_setting_or_version_offers_nothing(words):
    words.build("one two")
    words.settings["upper"]["prefix"] = "-"
    assert words.build() == ("built", "")
    words.version = 2
    assert words.build("one three") == ("built", "")
    assert words.text() == "-one -three"


def test_what_is_built_in_any_case_or_was_cleaned_is_offered_nothing(words):
    words.build("one two")
    assert words.build("one three", forced=frozenset({"upper:p:a"})) == ("built", "")


def test_an_edited_file_is_not_offered(words):
    words.build("one two three")
    place = words.place("0.txt")
    place.unlink()
    place.write_text("One")
    words.place("2.txt").unlink()
    assert words.build("one other three") == ("built", "1.txt count.txt")
    assert words.text() == "one other three"


@pytest.mark.slow
def test_a_kept_file_that_the_store_lost_comes_back(words):
    words.build("one two")
    shutil.rmtree(words.root / "cache/store/objects")
    words.build("one other")
    words.build("four")
    assert words.build("one other") == ("restored", "")
    assert words.text() == "one other"


def test_other_versions_of_packages_offer_nothing(words, monkeypatch):
    words.build("one two")
    monkeypatch.setattr("rvbuild.engine.run.execute.versions", lambda: {"numpy": "0.1"})
    assert words.build("one three") == ("built", "")


def test_a_previous_result_that_changes_meanwhile_keeps_nothing(words):
    words.build("one two")
    assert words.build("one MEDDLE")[0] == "failed"
    assert "changed while upper:a was built from its previous result" in words.outcomes["upper:a"].message
    assert words.build("one three") == ("built", "1.txt count.txt")
    assert words.text() == "one three"


def test_a_stage_cannot_keep_what_it_was_not_given(words):
    words.build("one two")
    assert words.build("one LIE")[0] == "failed"
    assert (
        words.outcomes["upper:a"].message == "the stage upper reuses unknown, which is not part of its previous result"
    )
