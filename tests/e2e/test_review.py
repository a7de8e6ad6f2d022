"""`rvbuild review`: suspects of labels, verdicts about them, and labels with these applied, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rvbuild.review.verdicts import read_verdicts, set_verdict

from .conftest import BOXES, Space, write_labels

pytestmark = pytest.mark.slow

SMALL = "\n[draft]\nblock_px = 32\n"
WRONG = (2, 44, 16, 58)
TABLE = "cache/p/review/suspects.gpkg"


@pytest.fixture(scope="module")
def reviewed_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reviewed") / "ws"
    shutil.copytree(template, root)
    space = Space(root)
    space.project.write_text(space.project.read_text() + SMALL)
    write_labels(space.root / "data/a.geojson", [*BOXES["a"], WRONG])
    result = space.rvbuild("review")
    assert result.status == 0, result.out + result.err
    return root


@pytest.fixture
def reviewed(reviewed_template: Path, tmp_path: Path) -> Space:
    """Return a workspace whose training labels have a building where there is none, after a review."""
    shutil.copytree(reviewed_template, tmp_path / "ws")
    return Space(tmp_path / "ws")


def rows(space: Space, *columns: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(space.root / TABLE, isolation_level=None)) as database:
        return database.execute(f"select {', '.join(columns)} from suspects order by fid").fetchall()


def wrong_label(space: Space) -> str:
    """Return the suspect that is the label without a building."""
    number = str(len(BOXES["a"]))
    found = rows(space, "id", "kind", "file", "feature_id")
    return next(key for key, kind, file, feature in found if (file, feature) == ("data/a.geojson", number))


def features(path: Path) -> list[Any]:
    return list(json.loads(path.read_text())["features"])


def test_review_says_what_there_is_and_where(reviewed: Space) -> None:
    result = reviewed.rvbuild("review")
    count = len(rows(reviewed, "id"))
    assert f"{count} suspect" in result.out
    assert "cache/p/review/review.html" in result.out
    folder = reviewed.root / "cache/p/review"
    names = ["review.html", "review.qgz", "suspects.geojson", "suspects.gpkg", "thumbnails"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert "no object there" in (folder / "review.html").read_text()
    assert wrong_label(reviewed)


def test_verdicts_survive_reviews_and_cleaning(reviewed: Space) -> None:
    key = wrong_label(reviewed)
    set_verdict(reviewed.root / TABLE, key, "reject", "it is one")
    for words in (("review",), ("clean", "review"), ("clean",), ("review",)):
        assert reviewed.rvbuild(*words).status == 0
        assert read_verdicts(reviewed.root / TABLE)[key] == ("reject", "it is one")


def test_a_trained_model_counts_in_scenes_that_it_has_not_seen(reviewed: Space) -> None:
    """It trains and predicts first, and suspects of validation scenes depend on its scores."""
    before = rows(reviewed, "scene", "id", "score")
    reviewed.edit("stride_px = 16\n", 'stride_px = 16\nscores = "uint8"\n\n[review]\nmodel = true\n')
    result = reviewed.rvbuild("review", "--json")
    assert result.status == 0, result.err
    assert result.did("built") >= {"train", "infer:c", "suspects"}
    assert not result.did("built") & {"infer:a", "infer:b", "draft:c"}
    after = rows(reviewed, "scene", "id", "score")
    assert {row for row in before if row[0] == "c"} != {row for row in after if row[0] == "c"}
    reviewed.edit("epochs = 2", "epochs = 1")
    assert reviewed.rvbuild("review", "--json").did("built") >= {"train", "infer:c", "suspects"}


def test_accepted_verdicts_go_into_copies(reviewed: Space) -> None:
    set_verdict(reviewed.root / TABLE, wrong_label(reviewed), "accept")
    original = (reviewed.root / "data/a.geojson").read_bytes()
    result = reviewed.rvbuild("review", "--apply", TABLE, "-n")
    assert "would change 1 label" in result.out
    assert not (reviewed.root / "cache/p/review/labels").exists()
    result = reviewed.rvbuild("review", "--apply", TABLE)
    assert result.status == 0, result.err
    assert "cache/p/review/labels/data/a.geojson" in result.out
    copied = features(reviewed.root / "cache/p/review/labels/data/a.geojson")
    assert copied == features(reviewed.root / "data/a.geojson")[:-1]
    assert (reviewed.root / "data/a.geojson").read_bytes() == original
    assert reviewed.rvbuild("review", "--apply", TABLE, "-o", "fixed").status == 0
    assert features(reviewed.root / "fixed/data/a.geojson") == copied


def test_in_place_builds_only_what_the_edited_blocks_need(reviewed: Space) -> None:
    set_verdict(reviewed.root / TABLE, wrong_label(reviewed), "accept")
    before = reviewed.shown()
    original = (reviewed.root / "data/a.geojson").read_bytes()
    result = reviewed.rvbuild("review", "--apply", TABLE, "--in-place")
    assert result.status == 0, result.err
    assert len(features(reviewed.root / "data/a.geojson")) == len(BOXES["a"])
    (backup,) = (reviewed.root / "cache/p/review/backups").rglob("a.geojson")
    assert backup.read_bytes() == original
    result = reviewed.rvbuild("draft", "--json")
    assert "sums:a" in result.did("built")
    assert result.did("fresh") >= {"features:a", "features:b", "features:c", "sums:b"}
    after = reviewed.shown()
    sums = {name for name in before if name.startswith("sums/a/row")}
    # The label was in the second row of blocks alone.
    assert {name for name in sums if before[name] != after[name]} == {"sums/a/row-00001.npy"}
    assert reviewed.rvbuild("review").status == 0
    assert all(feature != str(len(BOXES["a"])) for (feature,) in rows(reviewed, "feature_id"))
    # Applied again, there is nothing left to do.
    result = reviewed.rvbuild("review", "--apply", TABLE, "--in-place")
    assert "no verdict is accepted" in result.err


def test_stale_verdicts_are_refused(reviewed: Space) -> None:
    set_verdict(reviewed.root / TABLE, wrong_label(reviewed), "accept")
    write_labels(reviewed.root / "data/a.geojson", [*BOXES["a"], (2, 44, 16, 57)])
    edited = (reviewed.root / "data/a.geojson").read_bytes()
    result = reviewed.rvbuild("review", "--apply", TABLE, "--in-place")
    assert result.status == 1
    assert "the label has changed since the review" in result.err
    assert (reviewed.root / "data/a.geojson").read_bytes() == edited
    assert not (reviewed.root / "cache/p/review/backups").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--in-place",), "--in-place and -o belong to --apply"),
        (("--apply", TABLE, "--in-place", "-o", "x"), "either --in-place or -o"),
        (("--apply", TABLE, "-j", "2"), "-j does not apply with --apply"),
        (("--apply", "none.gpkg"), "there is no such file"),
        (("--apply", "projects/p.toml"), "expected the suspects of a review"),
        (("--apply", "data/a.geojson"), "cannot be read as a suspect"),
    ],
)
def test_mistakes(space: Space, words: tuple[str, ...], message: str) -> None:
    if "data/a.geojson" in words:
        path = space.root / "data/a.geojson"
        path.write_text(path.read_text().replace('"note"', '"verdict": "accept", "note"'))
    result = space.rvbuild("review", *words)
    assert result.status != 0
    assert message in result.err
