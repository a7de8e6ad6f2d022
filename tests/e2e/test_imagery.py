"""Stacks, parts and transformers of images, from the project file to predictions and a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

from tests.e2e.conftest import Space
from tests.range_server import serving

FUNCTION = """
def halve(image, valid, by=2):
    return image / by
"""

IMAGE = """image.files = ["data/{id}.tif", "data/{id}_nir.tif"]
image.stack = "bands"
image.bbox_px = [4, 8, 60, 56]
image.transform = [
    { kind = "expression", bands = { ndvi = "(B4 - B1) / (B4 + B1)" } },
    { kind = "function", function = "own_pixels:halve", args = { by = 4 } },
    { kind = "stats", max_stds = 2 },
]"""


@pytest.fixture
def stacked(space: Space) -> Space:
    for number, scene in enumerate("abc"):
        nir = np.random.default_rng(number).integers(20, 200, (1, 32, 32), dtype=np.uint8)
        place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5800000, 1, 1)}
        with rasterio.open(
            space.root / f"data/{scene}_nir.tif",
            "w",
            driver="GTiff",
            count=1,
            height=32,
            width=32,
            dtype="uint8",
            **place,
        ) as file:
            file.write(nir)
    (space.root / "own_pixels.py").write_text(FUNCTION)
    space.edit('image = "data/{id}.tif"', IMAGE)
    space.edit("stride_px = 16\n", 'stride_px = 16\nvectors = [{ class = "ground" }]\n')
    return space


def outcome(result: object) -> str:
    return f"{result.out}\n{result.err}"  # type: ignore[attr-defined]


def test_from_the_project_to_the_bundle(stacked: Space) -> None:
    result = stacked.rvbuild("build", "--json")
    assert result.status == 0, outcome(result)
    cache = stacked.root / "cache" / "p"
    index = json.loads((cache / "chip/a/index.json").read_text())
    assert (index["bands"], index["dtype"]) == (5, "float32")
    model = json.loads((cache / "train/model.json").read_text())
    assert model["normalize"]["kind"] == "stats" and model["normalize"]["max_stds"] == 2
    with rasterio.open(cache / "predict/c/labels.tif") as labels:
        assert labels.bounds == (500002, 5799972, 500030, 5799996), "the part, exactly where it lies"
        predicted = labels.read(1)
        polygons = [
            transform_geom("EPSG:4326", labels.crs, feature["geometry"])
            for feature in json.loads((cache / "predict/c/ground.geojson").read_text())["features"]
        ]
        assert polygons
        burnt = rasterize(polygons, predicted.shape, transform=labels.transform)
        np.testing.assert_array_equal(burnt == 1, predicted == 1)

    # Statistics-dependent settings are the model's: nothing is chipped or analyzed again.
    stacked.edit("max_stds = 2", "max_stds = 2.5")
    result = stacked.rvbuild("build", "--json")
    assert result.status == 0, outcome(result)
    assert not {label for label in result.did("built") if label.startswith(("analyze", "chip"))}
    assert "normalize.max_stds: 2.0 → 2.5" in result.reasons("train")
    stacked.edit("max_stds = 2.5", "max_stds = 2")

    # The user's code is an input of all that reads pixels.
    (stacked.root / "own_pixels.py").write_text(FUNCTION.replace("image / by", "image / by + 1"))
    status = stacked.rvbuild("status", "--json")
    assert {"analyze:a", "chip:a", "chip:c"} <= status.did("stale")
    (stacked.root / "own_pixels.py").write_text(FUNCTION + "# a comment counts for nothing\n")
    assert stacked.rvbuild("build").status == 0

    # A bundle takes the files of a stack one after another, and carries the user's code.
    bundle, other_folder = cache / "bundle/p.zip", stacked.root / "elsewhere"
    other_folder.mkdir()
    (stacked.root / "own_pixels.py").unlink()
    words = ["predict", str(bundle), "data/c.tif", "data/c_nir.tif", "-o", str(other_folder)]
    result = stacked.rvbuild(*words)
    assert result.status == 1 and "own_pixels:halve" in result.err and "--allow-code" in result.err
    result = stacked.rvbuild(*words, "--allow-code")
    assert result.status == 0, outcome(result)
    with rasterio.open(other_folder / "c/labels.tif") as labels:
        assert labels.shape == (64, 64), "a bundle predicts whole images"
    with serving(stacked.root / "data") as server:
        urls = [f"{server.url}/c.tif", f"{server.url}/c_nir.tif"]
        there = stacked.rvbuild("predict", str(bundle), *urls, "-o", str(other_folder / "there"), "--allow-code")
    assert there.status == 0, outcome(there)
    assert (other_folder / "there/c/labels.tif").read_bytes() == (other_folder / "c/labels.tif").read_bytes()
    result = stacked.rvbuild("predict", str(bundle), "data/c.tif", "-o", str(other_folder), "--allow-code")
    assert result.status == 2 and "stacks of 2 files" in result.err


def write_items(folder: Path, scene: str, hrefs: dict[str, str], **more: object) -> None:
    assets = {name: {"href": href, "roles": ["data"]} for name, href in hrefs.items()}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": scene, "geometry": None, "assets": assets, **more}
    (folder / f"{scene}.json").write_text(json.dumps(item))


def test_stac_items_of_this_machine_and_of_a_server(stacked: Space) -> None:
    data = stacked.root / "data"
    for scene in "abc":
        write_items(data, scene, {"rgb": f"./{scene}.tif", "nir": f"{scene}_nir.tif"}, properties={})
    text = stacked.project.read_text()
    start, stop = text.index("image.files"), text.index('    { kind = "function"')
    image = 'image.stac = "data/{id}.json"\nimage.bbox_px = [4, 8, 60, 56]\nimage.transform = [\n'
    ndvi = '    { kind = "expression", bands = { ndvi = "(nir - rgb_1) / (nir + rgb_1)" } },\n'
    stacked.project.write_text(text[:start] + image + ndvi + text[stop:])
    words = ("chip", "projects/p.toml", "--json")
    result = stacked.rvbuild(*words)
    assert result.did("built") == {"chip:a", "chip:b", "chip:c"}, outcome(result)
    index = json.loads((stacked.root / "cache/p/chip/a/index.json").read_text())
    assert (index["bands"], index["dtype"]) == (5, "float32")

    # An item counts by what it means; a change of an asset is seen, and so is a link that leads elsewhere.
    write_items(data, "a", {"rgb": "./a.tif", "nir": "a_nir.tif"}, properties={"title": "the same"})
    assert stacked.rvbuild(*words).did("built") == set()
    write_items(data, "a", {"rgb": "./a.tif", "nir": "b_nir.tif"})
    assert stacked.rvbuild(*words).did("built") == {"chip:a"}

    # The same items on a server, whose relative links lead to it.
    with serving(data) as server:
        stacked.edit('"data/{id}.json"', f'"{server.url}/{{id}}.json"')
        result = stacked.rvbuild(*words)
        assert result.did("built") == {"chip:a", "chip:b", "chip:c"}, outcome(result)
        assert f"image added: {server.url}/c.tif" in result.reasons("chip:c")
        (data / "b.json").unlink()
        result = stacked.rvbuild(*words)
        assert result.status == 2 and f"scene.image.stac: {server.url}/b.json: not found on the server" in result.err
    result = stacked.rvbuild(*words)
    assert result.status == 2 and f"{server.url}/a.json: cannot be reached: Connection refused" in result.err


def test_training_reads_what_chips_would_hold(stacked: Space) -> None:
    model = stacked.root / "cache/p/train/model.safetensors"
    assert stacked.rvbuild("train", "-q").status == 0
    before = model.read_bytes()
    stacked.edit("[chip]\n", "[chip]\nstore = false\n")
    assert stacked.rvbuild("clean", "train", "-q").status == 0
    result = stacked.rvbuild("train", "--json", "--set", "train.workers=1")  # which imports the function anew
    assert "train" in result.did("built"), outcome(result)
    assert model.read_bytes() == before
