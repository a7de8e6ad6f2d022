"""The seal covers whatever a decision rests on: every cause of work breaks it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rvbuild.cli.commands import build as building
from rvbuild.cli.words import normal_words
from rvbuild.engine.keys import installed
from rvbuild.engine.plan import seal
from rvbuild.engine.plan.decide import Cause

from .conftest import Space

PACKAGE = "rvbuild_made_up"
READS_A_VARIABLE = """
import os
def scale(image, valid):
    return image * int(os.environ["GAIN_OF_TESTS"])
"""


@pytest.fixture
def analyzed(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Space:
    """Return a workspace that was analyzed, with a package in its keys and rvbuild's own code in a copy."""
    (space.root / "site" / f"{PACKAGE}-1.0.dist-info").mkdir(parents=True)
    (space.root / "site" / f"{PACKAGE}-1.0.dist-info" / "METADATA").write_text(f"Name: {PACKAGE}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(space.root / "site"))
    copies = []
    for name in ("rvbuild/engine/keys/artifact.py", "rvbuild/rules/analyze.py", "rvbuild/stages/analyze/scene.py"):
        copies.append(tmp_path / "code" / name)
        copies[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(str(installed.files()[name])), copies[-1])
    monkeypatch.setattr(installed, "on_disk", lambda: copies)
    space.edit("[classes]", f'strict = ["{PACKAGE}"]\n\n[classes]')
    monkeypatch.setenv("GAIN_OF_TESTS", "2")
    (space.root / "gains.py").write_text(READS_A_VARIABLE)
    space.edit('image = "data/{id}.tif"', 'image = { files = "data/{id}.tif", transform = ["gains:scale"] }')
    monkeypatch.chdir(space.root)
    words = words_of(space)
    assert building.build("analyze", words[1:], building.Options(verbosity=-1, inline=True), words) == 0
    return space


def words_of(space: Space) -> list[str]:
    words = normal_words(["analyze", str(space.project)])
    assert words is not None
    return words


def holds(space: Space) -> bool:
    words = words_of(space)
    return seal.holds(seal.path_of(space.root / "cache", words), words) is not None


def edit_code(name: str) -> Callable[[Space], None]:
    def edit(space: Space) -> None:
        with (space.root.parent / "code" / name).open("a") as file:
            file.write("\nEDITED = True\n")

    return edit


def update_package(space: Space) -> None:
    old = space.root / "site" / f"{PACKAGE}-1.0.dist-info"
    (old / "METADATA").write_text(f"Name: {PACKAGE}\nVersion: 2.0\n")
    old.rename(old.with_name(f"{PACKAGE}-2.0.dist-info"))


def fail(space: Space) -> None:
    image = space.root / "data/a.tif"
    image.write_bytes(b"no image")
    assert space.rvbuild("analyze", "-q").status != 0


CAUSES: dict[Cause, Callable[[Space], object]] = {
    Cause.NEVER_BUILT: lambda s: shutil.rmtree(s.root / "cache/p"),
    Cause.CLEANED: lambda s: s.rvbuild("clean", "analyze", "projects/p.toml"),
    Cause.SOURCE: lambda s: shutil.copy(s.root / "data/b.tif", s.root / "data/a.tif"),
    Cause.SETTING: lambda s: s.edit("[classes]", "[analyze]\nsample = 0.5\n\n[classes]"),
    Cause.VERSION: edit_code("rvbuild/rules/analyze.py"),
    Cause.CODE: edit_code("rvbuild/stages/analyze/scene.py"),
    Cause.SCHEMA: edit_code("rvbuild/engine/keys/artifact.py"),
    Cause.PACKAGE: update_package,
    Cause.VARIABLE: lambda s: os.environ.update(GAIN_OF_TESTS="3"),
    Cause.UPSTREAM: lambda s: (s.root / "cache/p/analyze/a.json").unlink(),
    Cause.OUTPUT: lambda s: (s.root / "cache/p/analyze/stats.json").write_text("{}"),
    Cause.FAILURE: fail,
}


def test_every_cause_is_walked() -> None:
    assert {*CAUSES, Cause.FORCED} == set(Cause)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_the_seal_breaks(cause: Cause, analyzed: Space) -> None:
    assert holds(analyzed)
    CAUSES[cause](analyzed)
    assert not holds(analyzed)


def test_what_is_forced_is_not_asked_of_a_seal() -> None:
    assert normal_words(["analyze", "-B", "projects/p.toml"]) is None


def test_modules_that_come_from_another_place_break_the_seal(
    analyzed: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert holds(analyzed)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not holds(analyzed)
