"""After any history of edits and reverts of labels, the model and the maps of a draft are byte for byte those of a
clean build.

Drafts are built as `watch draft` builds them. `RVBUILD_PROPERTY=100 pytest tests/e2e/test_draft_property.py` makes that
many edits for each task.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from rvbuild.cli.commands import build as build_command
from rvbuild.cli.commands.build import Options

from .conftest import BOXES, Space, write_labels
from .projects import PROJECTS, write_project

pytestmark = pytest.mark.slow

EDITS = int(os.environ.get("RVBUILD_PROPERTY", "0")) or 12
COMPARED_EVERY = 50
"""Edits between comparisons with a clean build."""

Boxes = list[tuple[float, float, float, float]]


class Editor:
    """Labels of the scenes of a workspace, as a person changes them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._now: dict[str, Boxes] = {name: list(boxes) for name, boxes in BOXES.items()}
        self._before = [dict(self._now)]

    def edit(self) -> None:
        """Change the labels of one scene, or bring back those of all scenes that were there before."""
        choose, name = self._random, self._random.choice("aabbc")
        boxes = list(self._now[name])
        kind = choose.choice(["add", "add", "move", "move", "remove", "order", "save", "revert"])
        if kind == "revert":
            self._now = dict(choose.choice(self._before))
        elif kind == "add" or not boxes:
            boxes.append(self._box())
        elif kind == "move":
            place, (dx, dy) = choose.randrange(len(boxes)), (choose.uniform(-6, 6), choose.uniform(-6, 6))
            x0, y0, x1, y1 = boxes[place]
            boxes[place] = (x0 + dx, y0 + dy, x1 + dx, y1 + dy)
        elif kind == "remove":
            del boxes[choose.randrange(len(boxes))]
        elif kind == "order":
            choose.shuffle(boxes)
        if kind != "revert":
            self._now = {**self._now, name: boxes}
        self._before.append(dict(self._now))
        for scene, labels in self._now.items():
            write_labels(self._folder / f"{scene}.geojson", labels, indent=choose.choice([None, 1]))

    def _box(self) -> tuple[float, float, float, float]:
        x, y = self._random.uniform(0, 50), self._random.uniform(0, 50)
        return x, y, x + self._random.uniform(3, 14), y + self._random.uniform(3, 14)


def build(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(space.root)
    options = Options(inline=True, checks_after=True, verbosity=-1)
    assert build_command.build("draft", [str(space.project)], options, None) == 0


@pytest.mark.timeout(60 + 3 * EDITS)
@pytest.mark.parametrize("task", list(PROJECTS))
def test_edits_and_reverts_equal_a_clean_build(
    space: Space, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(space.root, task)
    space.project.write_text(space.project.read_text() + "\n[draft]\nblock_px = 32\n")
    editor, different = Editor(space.root / "data", seed=len(task)), set[bytes]()
    for number in range(EDITS):
        editor.edit()
        build(space, monkeypatch)
        different.add((space.root / "cache/p/head/head.json").read_bytes())
        if number + 1 == EDITS or (number + 1) % COMPARED_EVERY == 0:
            clean = Space(tmp_path / "clean")
            shutil.copytree(space.root, clean.root, ignore=shutil.ignore_patterns("cache"))
            build(clean, monkeypatch)
            assert space.shown() == clean.shown()
            shutil.rmtree(clean.root)
    assert len(different) > EDITS / 10
