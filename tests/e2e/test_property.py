"""The master property with the real stages: an incremental build gives byte for byte what a clean build gives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .conftest import Result, Space, write_image, write_labels
from .projects import PROJECTS, write_project

LABELS = [[(5, 5, 25, 20), (35, 30, 60, 55)], [(5, 5, 25, 30)], []]
AREA = (
    '{"type": "Polygon", "coordinates": [[[500002, 5799998], [500030, 5799998], [500030, 5799970], [500002, 5799970]]]}'
)

#: By task: settings that are put in place of the first of them in the project file.
TABLES = {
    "segmentation": {
        "chip": ["size_px = 32\nstride_px = 24", 'size_px = 32\nmethod = "random"\nper_scene = 5', "size_px = 24"],
        "train": [
            "epochs = 2",
            "epochs = 1",
            'epochs = 2\nclass_weights = "balanced"',
            'epochs = 2\nschedule = "constant"',
        ],
        "predict": [
            "stride_px = 16",
            'stride_px = 16\nblend = "cosine"\nrgb = true',
            'vectors = [{ class = "building" }]',
        ],
    },
    "cells": {
        "chip": ["cell_px = 15 }", 'cell_px = 15, rule = "ioa" }', "cell_px = 20 }"],
        "train": ["epochs = 2", "epochs = 1", 'epochs = 2\nclass_weights = "balanced"'],
        "predict": [
            "lr = 1e-2",
            'lr = 1e-2\n[predict]\nscores = "uint8"\nrgb = true',
            'lr = 1e-2\n[predict]\ncells = "gpkg"',
        ],
    },
    "boxes": {
        "chip": [
            "size_px = 32\nstride_px = 16",
            "size_px = 32\nstride_px = 16\nneg_ratio = 0.5\nioa_thresh = 0.5\nclip = true",
            'size_px = 32\nmethod = "random"\nper_scene = 6\nneg_ratio = 1.0',
        ],
        "train": ["epochs = 1", 'epochs = 2\nschedule = "constant"', "epochs = 1\naugment = []"],
        "predict": [
            "score_thresh = 0.1",
            "score_thresh = 0.27",
            'score_thresh = 0.1\nmerge_thresh = 0.2\nboxes = "gpkg"',
        ],
    },
}


def unstored(text: str) -> str:
    """Return a project file that trains without stored chips."""
    if "[chip]\n" not in text:
        text = text.replace("[train]\n", "[chip]\n\n[train]\n")
    return text.replace("[chip]\n", "[chip]\nstore = false\n")


def write(space: Space, task: str, state: dict[str, int]) -> None:
    """Write the workspace that `state` describes."""
    for path in space.project.parent.glob("*.toml"):
        path.unlink()
    write_project(space.root, task)
    text = space.project.read_text()
    space.project.unlink()
    for table, choices in TABLES[task].items():
        assert choices[0] in text
        text = text.replace(choices[0], choices[state[table]])
    if state["store"]:
        text = unstored(text)
    if state["aoi"]:
        text = text.replace("[train]", '[scenes.by_id."c"]\naoi = "data/area.geojson"\n\n[train]')
    (space.project.parent / ("p.toml", "other.toml")[state["name"]]).write_text(text)
    crs = '"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}'
    feature = f'{{"type": "Feature", "properties": {{}}, "geometry": {AREA}}}'
    ring = feature.replace("[500002, 5799970]]]", "[500002, 5799970], [500002, 5799998]]]")
    (space.root / "data/area.geojson").write_text(f'{{"type": "FeatureCollection", {crs}, "features": [{ring}]}}')
    write_labels(space.root / "data/a.geojson", LABELS[state["labels"]], indent=state["indent"] or None)
    write_image(space.root / "data/b.tif", LABELS[0], seed=state["image"])


#: What `write` writes the workspace from.
STATES = ["chip", "train", "predict", "labels", "indent", "image", "aoi", "name", "store"]

EDITS = st.lists(
    st.tuples(
        st.sampled_from([*STATES, "damage", "rot", "build", "move", "clean", "touch"]),
        st.integers(0, 3),
    ),
    min_size=2,
    max_size=7,
)


def check_foretold(foretold: Result, result: Result) -> None:
    """Check that each artifact was treated as its state said; one whose key was not known may come out any way."""
    means = {"fresh": "fresh", "restorable": "restored", "stale": "built", "missing": "built"}
    said = [(a["stage"], a["scene"], means[a["state"]]) for a in foretold.json["artifacts"] if a["key"] is not None]
    done = [(a["stage"], a["scene"], a["state"]) for a in result.json["artifacts"]]
    assert set(said) <= set(done)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", list(PROJECTS))
@settings(max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 1), edits=EDITS)
def test_incremental_equals_clean(template: Path, task: str, first: int, edits: list[tuple[str, int]]) -> None:
    base = Path(tempfile.mkdtemp(prefix="rvbuild-e2e-"))
    try:
        space = Space(base / "ws")
        shutil.copytree(template, space.root)
        state = {**dict.fromkeys(STATES, 0), "store": first}
        write(space, task, state)
        assert space.rvbuild("build", "-q").status == 0
        rot = False
        for what, value in edits:
            if what == "damage":
                shown = [p for p in sorted((space.root / "cache").rglob("*")) if p.is_file()]
                shown = [p for p in shown if p.relative_to(space.root).parts[1] in ("p", "other")]
                shown[value * len(shown) // 4].write_bytes(b"damage")
            elif what == "rot":
                objects = [p for p in sorted((space.root / "cache/store/objects").rglob("*")) if p.is_file()]
                rotten = objects[value * len(objects) // 4]
                rotten.chmod(0o644)
                rotten.write_bytes(b"x" * rotten.stat().st_size)
                rot = True
            elif what == "build":
                assert space.rvbuild(("chip", "train", "predict", "eval")[value], "-q").status == 0
            elif what == "move":
                space = Space(space.root.rename(base / f"moved {len(list(base.iterdir()))}"))
            elif what == "clean":
                assert space.rvbuild("clean", ("chip", "train", "predict", "eval")[value], "-q").status == 0
            elif what == "touch":
                for path in (space.root / "data").iterdir():
                    path.touch()
            else:
                sizes = {
                    **{t: len(c) for t, c in TABLES[task].items()},
                    "labels": len(LABELS),
                    "aoi": 2,
                    "name": 2,
                    "store": 2,
                }
                state[what] = value % sizes.get(what, 4)
                write(space, task, state)
        foretold = space.rvbuild("status", "--json")
        result = space.rvbuild("build", "--json")
        assert result.status == 0, result.out
        if not rot:
            check_foretold(foretold, result)
        clean = Space(base / "clean")
        shutil.copytree(space.root, clean.root, ignore=shutil.ignore_patterns("cache"))
        assert clean.rvbuild("build", "-q").status == 0
        project = ("p", "other")[state["name"]]
        assert space.shown(project) == clean.shown(project)
        assert space.rvbuild("build", "--json").did("fresh") == {
            label for what in ("built", "restored", "fresh") for label in result.did(what)
        }
    finally:
        shutil.rmtree(base)
