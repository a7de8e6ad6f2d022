"""Several tables of labels for one scene: what an edit of each rebuilds, and that it is what a clean build gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fiona
import numpy as np
import rasterio

from .conftest import BOXES, Space, write_labels

LAYER = '{ vector = "data/{id}.geojson", class = "building", background = "ground" }'


def write_kinds(space: Space, scene: str, kind: str) -> None:
    """Write one box of a kind as the second vector file of a scene."""
    path = space.root / f"data/{scene}_kinds.geojson"
    write_labels(path, [(2, 2, 20, 20)])
    content = json.loads(path.read_text())
    content["features"][0]["properties"]["kind"] = kind
    path.write_text(json.dumps(content))


def write_land(space: Space, scene: str, corner: int = 1) -> None:
    """Write the raster of a scene: ground (1), and one pixel of its own in a corner."""
    with rasterio.open(space.root / f"data/{scene}.tif") as image:
        profile = {**image.profile, "count": 1}
    ids = np.ones((64, 64), dtype=np.uint8)
    ids[-1, -1] = corner
    with rasterio.open(space.root / f"data/{scene}_land.tif", "w", **profile) as file:
        file.write(ids[None])


def clean_build_gives_the_same(space: Space, into: Path) -> bool:
    """Tell whether a build of the chips from nothing gives what the workspace shows."""
    shutil.copytree(space.root, into, ignore=shutil.ignore_patterns("cache"))
    other = Space(into)
    assert other.rvbuild("chip").status == 0
    return {k: v for k, v in other.shown().items() if k.startswith("chip")} == {
        k: v for k, v in space.shown().items() if k.startswith("chip")
    }


def test_each_table_counts_by_what_it_reads(space: Space, tmp_path: Path) -> None:
    for scene in BOXES:
        write_kinds(space, scene, "ground")
    space.edit(LAYER, f'[{LAYER}, {{ vector = "data/{{id}}_kinds.geojson", class_attribute = "kind" }}]')
    assert space.rvbuild("chip").status == 0
    write_kinds(space, "a", "building")  # of another class: only the second table reads the attribute
    assert space.rvbuild("chip", "--json").did("built") == {"chip:a"}
    assert clean_build_gives_the_same(space, tmp_path / "clean")
    write_labels(space.root / "data/b.geojson", BOXES["b"], indent=2)  # the first table reads none
    assert not space.rvbuild("chip", "--json").did("built")


def test_raster_and_vector_labels_together(space: Space, tmp_path: Path) -> None:
    for scene in BOXES:
        write_land(space, scene)
    vector = '{ vector = "data/{id}.geojson", class = "building" }'
    space.edit(LAYER, f'[{{ raster = "data/{{id}}_land.tif" }}, {vector}]')
    space.edit("size_px = 32\nstride_px = 24", "size_px = 16\nstride_px = 16")
    checked = space.rvbuild("check", "--deep")
    assert checked.status == 0, checked.err
    assert space.rvbuild("chip").status == 0
    counts = json.loads((space.root / "cache/p/data/data.json").read_text())["splits"][0]["counts"]
    assert counts[0] == sum((x1 - x0) * (y1 - y0) for s in "ab" for x0, y0, x1, y1 in BOXES[s]) and counts[2] == 0
    write_labels(space.root / "data/a.geojson", BOXES["a"], indent=2)
    assert not space.rvbuild("chip", "--json").did("built")
    write_labels(space.root / "data/a.geojson", [*BOXES["a"], (0, 60, 3, 64)])
    write_land(space, "b", corner=0)
    assert space.rvbuild("chip", "--json").did("built") == {"chip:a", "chip:b"}
    assert clean_build_gives_the_same(space, tmp_path / "clean")
    write_land(space, "b", corner=7)
    failed = space.rvbuild("check", "--deep")
    assert failed.status == 2 and "values without a class: 7 (1 pixels)" in failed.err
    (space.root / "data/c_land.tif").write_bytes(b"")
    empty = space.rvbuild("check")
    assert "p.toml:14: scene.labels[0].raster: scene c: data/c_land.tif: is empty" in empty.err, empty.err


def test_a_shapefile_counts_by_what_it_means(space: Space) -> None:
    def write(scene: str, kind: str, note: str) -> None:
        schema = {"geometry": "Polygon", "properties": {"kind": "str", "note": "str"}}
        with fiona.open(space.root / f"data/{scene}.geojson") as source:
            records = [
                {
                    "type": "Feature",
                    "geometry": feature.geometry.__geo_interface__,
                    "properties": {"kind": kind, "note": note},
                }
                for feature in source
            ]
            crs = source.crs
        path = space.root / f"data/{scene}.shp"
        with fiona.open(path, "w", driver="ESRI Shapefile", schema=schema, crs=crs) as target:
            target.writerecords(records)

    for scene in BOXES:
        write(scene, "building", "first")
    space.edit(LAYER, '{ vector = "data/{id}.shp", class_attribute = "kind", background = "ground" }')
    assert space.rvbuild("chip").status == 0
    write("a", "building", "second")  # an attribute that is not read
    write("b", "ground", "first")
    assert space.rvbuild("chip", "--json").did("built") == {"chip:b"}
