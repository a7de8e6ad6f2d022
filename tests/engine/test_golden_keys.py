"""The golden keys: edits that mean nothing change no key, and what changes keys is changed on purpose.

`golden_keys.json` holds, for each artifact of a fixed project, its key and all that the key is made of but the contents
of files. If this test fails and the change is meant, renew the file and look at its difference:

    RVBUILD_RENEW_KEYS=1 python -m pytest tests/engine/test_golden_keys.py

If it fails because a key was added to a table of the project file, list the key in the table's `omitted_defaults`
(see `rvbuild.project.toml.table`) instead: a key at its default must not make anybody build again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rvbuild import rules
from rvbuild.engine.keys.artifact import Artifact, Source, components, digest, plain
from rvbuild.project.load import load

GOLDEN = Path(__file__).with_name("golden_keys.json")

PROJECT = """\
[project]
task = "semantic_segmentation"
name = "parcels"

[classes]
building = "#ff0000"
ground = "#00ff00"

[scenes]
train = ["a", "b"]
validation = ["c"]

[scene]
image = "data/{id}.tif"
channels = [2, 1, 0]
labels = { vector = "data/{id}.geojson", class = "building", background = "ground" }

[scenes.by_id."b"]
labels = { raster = "data/b_label.tif", encoding = "id" }
aoi = "data/area.geojson"

[chip]
size_px = 32

[train]
model = "unet"
epochs = 2
schedule = "constant"

[predict]
vectors = [{ class = "building" }]
"""

#: Edits that change no key: name → (old, new) in the text of the project file.
COSMETIC = {
    "as it is": ("", ""),
    "a comment": ("[chip]\n", "# sizes\n[chip] # here\n\n"),
    "defaults written out": (
        "size_px = 32\n",
        'size_px = 32\nstride_px = 32\nmethod = "sliding"\nwithin_aoi = true\nmax_nodata = 1.0\n',
    ),
    "defaults of training": (
        'schedule = "constant"\n',
        'schedule = "constant"\nselect = "last"\npatience = 0\noptimizer = "adam"\nbatch_size = 8\n',
    ),
    "another name": ('name = "parcels"\n', ""),
    "an upper-case colour": ("#ff0000", "#FF0000"),
    "more workers": ("epochs = 2\n", "epochs = 2\nworkers = 1\n"),
    "logs": ("epochs = 2\n", 'epochs = 2\nlog = ["csv", "tensorboard"]\n'),
    "strips": ("[predict]\n", "[analyze]\nstrip_px = 1000\n[eval]\nstrip_px = 1000\n[predict]\nstrip_px = 1000\n"),
    "a variable in a path": ("data/{id}.tif", "${NOWHERE:-data}/{id}.tif"),
    "a list of one image": ('"data/{id}.tif"', '["data/{id}.tif"]'),
}


def parts(artifact: Artifact) -> dict[str, Any]:
    """Return what the key of `artifact` is made of, with each input named by how it is digested."""
    inputs = []
    for item in artifact.inputs:
        if not item.in_key:
            continue
        if isinstance(item, Source):
            files_digest = item.digests[0] if item.digests else None  # where its function is does not count
            digested = f"{files_digest.function.rpartition(':')[2]} {files_digest.args}" if files_digest else "bytes"
            inputs.append((item.role, f"{len(item.files)} by {digested}"))
        else:
            inputs.append((item.role, f"{', '.join(item.files)} of {item.artifact.split(':')[0]}"))
    return components(artifact, inputs)


def keys(folder: Path, text: str, file: str = "parcels.toml") -> dict[str, Any]:
    """Return label → {"key", and what it is made of}, for the project `text` in the workspace `folder`."""
    path = folder / "projects" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    keys_ = {}
    for artifact in rules.artifacts(load(path, environ={})):
        made = parts(artifact)
        keys_[artifact.label()] = {"key": digest(made), **plain(made)}
    return keys_


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if os.environ.get("RVBUILD_RENEW_KEYS"):
        now = keys(tmp_path_factory.mktemp("renewed"), PROJECT)
        GOLDEN.write_text(json.dumps(now, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    stored: dict[str, Any] = json.loads(GOLDEN.read_text())
    return stored


@pytest.mark.parametrize("edit", COSMETIC)
def test_an_edit_that_means_nothing_changes_no_key(golden, tmp_path, edit):
    old, new = COSMETIC[edit]
    assert old in PROJECT
    assert keys(tmp_path, PROJECT.replace(old, new, 1), "other.toml") == golden


def test_tables_and_keys_in_another_order_change_no_key(golden, tmp_path):
    tables = ["\n".join([head, *reversed(rest)]) for head, *rest in (t.splitlines() for t in PROJECT.split("\n\n"))]
    classes = PROJECT.split("\n\n")[1]  # the order of classes is their ids
    tables[1] = classes
    assert keys(tmp_path / "a b" / "ü", "\n\n".join(reversed(tables))) == golden


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("channels = [2, 1, 0]", "channels = [0, 1, 2]", {"analyze", "chip", "bundle", "infer", "predict", "report"}),
        ("size_px = 32", "size_px = 64", {"chip", "train", "bundle", "infer", "predict"}),
        ("size_px = 32", "size_px = 32\nstore = false", {"chip"}),
        ("epochs = 2", "epochs = 3", {"train"}),
        ("#ff0000", "#ff0001", {"chip", "predict", "eval", "bundle", "report"}),
        ('vectors = [{ class = "building" }]', "", {"predict", "bundle"}),
    ],
)
def test_an_edit_that_means_something_changes_keys_where_it_is_used(golden, tmp_path, old, new, stale):
    assert old in PROJECT
    now = keys(tmp_path, PROJECT.replace(old, new, 1))
    changed = {label.partition(":")[0] for label in now if now[label]["key"] != golden[label]["key"]}
    assert changed <= stale
    assert changed
