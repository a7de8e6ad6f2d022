"""The master property with the real stages: an incremental build gives byte for byte what a clean build gives.

`RVBUILD_PROPERTY=100 pytest tests/e2e/test_property.py` tries that many sequences for each task, and longer ones.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rvbuild.engine.store.state import State
from rvbuild.engine.store.store import Store
from rvbuild.learn.models import build

from .conftest import Result, Space, write_image, write_labels
from .projects import PROJECTS, write_project

pytestmark = pytest.mark.usefixtures("every_core")

LABELS = [[(5, 5, 25, 20), (35, 30, 60, 55)], [(5, 5, 25, 30)], []]
AREA = (
    '{"type": "Polygon", "coordinates": [[[500002, 5799998], [500030, 5799998], [500030, 5799970], [500002, 5799970]]]}'
)

CNN = 'model = "cnn"\nmodel_args = { width = 4, depth = 2 }\n'

#: By task: settings that are put in place of the first of them in the project file.
TABLES = {
    "segmentation": {
        "chip": ["size_px = 32\nstride_px = 24", 'size_px = 32\nmethod = "random"\nper_scene = 5', "size_px = 24"],
        "train": [
            "epochs = 2",
            "epochs = 1",
            'epochs = 2\nclass_weights = "balanced"\nwarmup_epochs = 0.5\nloss = { cross_entropy = 1, dice = 0.5 }',
            'epochs = 2\nschedule = "constant"\nema = 0.9\naccumulate = 2\nshards = 2\nthreads = 2\n'
            'augment = ["crop", "cutmix"]',
        ],
        "predict": [
            "stride_px = 16",
            'stride_px = 16\nblend = "cosine"\nrgb = true\ntta = "flips"\nbatch_size = 1\nstrip_px = 2048\n'
            "[analyze]\nstrip_px = 2048\n[eval]\nstrip_px = 2048",
            'vectors = [{ class = "building" }]',
            'stride_px = 16\nengine = "onnxruntime"\nscores = "float32"\nbatch_size = 2\nstrip_px = 3000',
        ],
    },
    "cells": {
        "chip": ["cell_px = 15 }", 'cell_px = 15, rule = "ioa" }', "cell_px = 20 }"],
        "train": [
            CNN + "epochs = 2",
            CNN + "epochs = 1",
            CNN + 'epochs = 2\nclass_weights = "balanced"\naugment = ["mixup", "noise"]\nencoder_lr = 0.1',
            'model = "shufflenet_v2_x0_5"\npretrained = "data/weights.safetensors"\nepochs = 1\nfreeze = 1\n'
            'bands = { b = 0, r = 2 }\nweights_bands = ["r", "g", "b"]',
        ],
        "predict": [
            "lr = 1e-2",
            'lr = 1e-2\n[predict]\nscores = "uint8"\nrgb = true',
            'lr = 1e-2\n[predict]\ncells = "gpkg"\ntta = "d4"\nbatch_size = 1\nstrip_px = 1024',
        ],
    },
    "boxes": {
        "chip": [
            "size_px = 32\nstride_px = 16",
            "size_px = 32\nstride_px = 16\nneg_ratio = 0.5\nioa_thresh = 0.5\nclip = true",
            'size_px = 32\nmethod = "random"\nper_scene = 6\nneg_ratio = 1.0',
        ],
        "train": [
            "epochs = 1",
            'epochs = 2\nschedule = "constant"\nlayer_decay = 0.8',
            "epochs = 1\naugment = []",
            'epochs = 1\naugment = ["crop", "scale"]\naugment_args = { scale = { min = 0.5 } }',
        ],
        "predict": [
            "score_thresh = 0.1",
            'score_thresh = 0.27\ntta = "flips"',
            'score_thresh = 0.1\nmerge_thresh = 0.2\nboxes = "gpkg"\nbatch_size = 1\nstrip_px = 2048',
        ],
    },
}


def unstored(text: str) -> str:
    """Return a project file that trains without stored chips."""
    if "[chip]\n" not in text:
        text = text.replace("[train]\n", "[chip]\n\n[train]\n")
    return text.replace("[chip]\n", "[chip]\nstore = false\n")


@functools.cache
def weights() -> bytes:
    """Return the weights of a network for three bands, as another training would have left them."""
    torch.manual_seed(0)
    network = build("chip_classification", "shufflenet_v2_x0_5", bands=3, outputs=2, args={}, pretrained=False)
    return safetensors.torch.save(network.state_dict())


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
    text += "\n[draft]\nblock_px = 32\n"
    (space.project.parent / ("p.toml", "other.toml")[state["name"]]).write_text(text)
    crs = '"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}'
    feature = f'{{"type": "Feature", "properties": {{}}, "geometry": {AREA}}}'
    ring = feature.replace("[500002, 5799970]]]", "[500002, 5799970], [500002, 5799998]]]")
    (space.root / "data/area.geojson").write_text(f'{{"type": "FeatureCollection", {crs}, "features": [{ring}]}}')
    write_labels(space.root / "data/a.geojson", LABELS[state["labels"]], indent=state["indent"] or None)
    write_image(space.root / "data/b.tif", LABELS[0], seed=state["image"])
    if "weights.safetensors" in text:
        (space.root / "data/weights.safetensors").write_bytes(weights())


#: What `write` writes the workspace from.
STATES = ["chip", "train", "predict", "labels", "indent", "image", "aoi", "name", "store"]

VERDICTS = "suspects.gpkg"
"""The table of suspects holds verdicts, which are the user's."""

WISHED = int(os.environ.get("RVBUILD_PROPERTY", "0"))

#: What happens to the workspace besides, each with a number from 0 to 3.
EVENTS = {
    "damage": lambda space, n: write_all([one_of(shown(space), n)], b"damage"),
    "delete": lambda space, n: one_of(shown(space), n).unlink(),
    "rot": lambda space, n: rot(one_of(files(space.root / "cache/store/objects"), n)),
    "forge": lambda space, n: write_all(files(space.root / "cache/store/actions")[n::4], b"{"),
    "forget": lambda space, n: write_all((space.root / "cache").glob("state.db*"), b"lost"),
    "build": lambda space, n: run(space, ("chip", "train", "predict", "eval")[n]),
    "draft": lambda space, n: run(space, ("draft", "review", "suggest")[n % 3]),
    "clean": lambda space, n: run(space, "clean", ("chip", "train", "draft", "suggest")[n]),
    "free": lambda space, n: run(space, "clean", "--keep-cache", ("chip", "train", "infer", "eval")[n]),
    "gc": lambda space, n: space.rvbuild("cache", "gc", "--max-size", "0", "--grace", "0s"),
    "touch": lambda space, n: [path.touch() for path in (space.root / "data").iterdir()],
    "kill": lambda space, n: kill(space, n),
    "fail": lambda space, n: fail(space, ("data/b.tif", "data/a.geojson", "data/c.tif", "data/c.geojson")[n]),
    "quietly": lambda space, n: edit_quietly(space.root / "data/a.geojson", n),
}

EDITS = st.lists(
    st.tuples(st.sampled_from([*STATES, *EVENTS, "move"]), st.integers(0, 3)),
    min_size=2,
    max_size=14 if WISHED else 7,
)


class Killed(BaseException):
    """A run that ends here and now."""


def files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file()]


def shown(space: Space) -> list[Path]:
    return [p for name in ("p", "other") for p in files(space.root / "cache" / name) if p.name != VERDICTS]


def results(space: Space, project: str) -> dict[str, object]:
    """Return what there is of a project; of the table of suspects, the rows: its bytes have a history.

    Strips are there only if a scene was predicted since they were asked for.
    """
    shown = space.shown(project)
    made: dict[str, object] = {name: content for name, content in shown.items() if not name.startswith("strips/")}
    table = space.root / "cache" / project / "review" / VERDICTS
    if made.pop(f"review/{VERDICTS}", None) is not None:
        with contextlib.closing(sqlite3.connect(table)) as database:
            rows = database.execute("SELECT * FROM suspects ORDER BY id")
            made[VERDICTS] = [column[0] for column in rows.description], [row[1:] for row in rows]
    return made


def one_of(paths: list[Path], number: int) -> Path:
    return paths[number * len(paths) // 4]


def write_all(paths: Iterable[Path], content: bytes) -> None:
    for path in paths:
        path.write_bytes(content)


def rot(path: Path) -> None:
    """Let the disk lose what a file held, and nothing else."""
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)


def run(space: Space, *words: str) -> None:
    result = space.rvbuild(*words, "-q")
    assert result.status == 0, result.out + result.err


def kill(space: Space, number: int) -> None:
    """Begin to build, and end before the third time that a step is done."""
    step = (Store.take, Store.record, Store.place, State.succeed)[number]
    left = iter(range(2))

    def step_or_end(*args: Any, **kwargs: Any) -> Any:
        if next(left, None) is None:
            raise Killed
        return step(*args, **kwargs)

    kind = State if step is State.succeed else Store
    with mock.patch.object(kind, step.__name__, step_or_end), contextlib.suppress(Killed):
        space.rvbuild("build", "-q")


def fail(space: Space, name: str) -> None:
    """Build while an input is cut off, and put it back."""
    path = space.root / name
    content = path.read_bytes()
    path.write_bytes(content[:200])
    result = space.rvbuild("build", "-q", "-k")
    assert "Traceback" not in result.out + result.err
    path.write_bytes(content)


def edit_quietly(path: Path, number: int) -> None:
    """Move a corner; the size and the time of the file stay."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"500002.5", b"50000%d.5" % number))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def check_foretold(foretold: Result, result: Result) -> None:
    """Check that each artifact was treated as its state said; one whose key was not known may come out any way."""
    means = {"fresh": "fresh", "restorable": "restored", "stale": "built", "missing": "built", "failed": "built"}
    states = {(a["stage"], a["scene"]): means[a["state"]] for a in foretold.json["artifacts"] if a["key"] is not None}
    built = {a["key"] for a in result.json["artifacts"] if a["state"] == "built"}
    for a in result.json["artifacts"]:
        if a["state"] == "restored" and a["key"] in built:
            continue  # another artifact with the same key came first
        name = (a["stage"], a["scene"])
        assert a["state"] == states.get(name, a["state"]), name


@pytest.mark.timeout(600 + 60 * WISHED)
@pytest.mark.parametrize("task", list(PROJECTS))
@settings(max_examples=WISHED or 2, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 1), edits=EDITS)
def test_incremental_equals_clean(template: Path, task: str, first: int, edits: list[tuple[str, int]]) -> None:
    base = Path(tempfile.mkdtemp(prefix="rvbuild-e2e-"))
    try:
        space = Space(base / "ws")
        shutil.copytree(template, space.root)
        state = {**dict.fromkeys(STATES, 0), "store": first}
        write(space, task, state)
        assert space.rvbuild("build", "-q").status == 0
        rotten = False
        for edit, value in edits:
            if edit == "move":
                space = Space(space.root.rename(base / f"moved {len(list(base.iterdir()))}"))
            elif edit in EVENTS:
                EVENTS[edit](space, value)
                rotten = rotten or edit == "rot"
            else:
                sizes = {
                    **{t: len(c) for t, c in TABLES[task].items()},
                    "labels": len(LABELS),
                    "aoi": 2,
                    "name": 2,
                    "store": 2,
                }
                state[edit] = value % sizes.get(edit, 4)
                write(space, task, state)
        foretold = space.rvbuild("status", "--json")
        result = space.rvbuild("build", "--json")
        assert result.status == 0, result.out + result.err
        if not rotten:
            check_foretold(foretold, result)
        clean = Space(base / "clean")
        shutil.copytree(space.root, clean.root, ignore=shutil.ignore_patterns("cache"))
        assert clean.rvbuild("build", "-q").status == 0
        for command in ("draft", "review", "suggest"):
            run(space, command)
            run(clean, command)
        project = ("p", "other")[state["name"]]
        assert results(space, project) == results(clean, project)
        assert space.rvbuild("build", "--json").did("fresh") == {
            label for edit in ("built", "restored", "fresh") for label in result.did(edit)
        }
    finally:
        shutil.rmtree(base)


@pytest.mark.parametrize("edit", [("image", 1), ("predict", 2)])
def test_files_that_a_lost_database_told_of_are_not_left(template: Path, edit: tuple[str, int]) -> None:
    """The pictures of worst places and the vectors of before, of which there are fewer now."""
    inner = test_incremental_equals_clean.hypothesis.inner_test  # type: ignore[attr-defined]
    inner(template=template, task="cells", first=1, edits=[("forget", 3), edit])
