from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.rasters import IdRasterWriter, ScoreRasterWriter
from rvbuild.geo.write.vectors import regions
from rvbuild.geo.write.vectors.polygons import vectorize
from rvbuild.geo.write.vectors.strips import join_strips, write_strip
from tests.stages.sample_scenes import CLASSES, CRS, TRANSFORM

CARS: list[dict[str, Any]] = [
    {"class": "car"},
    {"class": "car", "format": "gpkg", "min_area_units": 0.5},
    {"class": "car", "format": "fgb", "kind": "points"},
    {"class": "tree", "format": "geojson", "simplify_px": 1.0},
    {"class": "tree", "format": "gpkg", "denoise_px": 2},
]


def write_ids(folder: Path, ids: np.ndarray) -> Path:
    grid = Grid(*ids.shape, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))
    with IdRasterWriter(folder / "ids.tif", grid, temp=folder) as writer:
        writer.write(0, ids)
    return folder / "ids.tif"


def write_scores(folder: Path, ids: np.ndarray, seed: int) -> Path:
    grid = Grid(*ids.shape, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))
    scores = np.random.default_rng(seed).random((2, *ids.shape), dtype=np.float32)
    with ScoreRasterWriter(folder / "scores.tif", grid, CLASSES[:2], "float32", temp=folder) as writer:
        writer.write(0, scores, ids != NODATA)
    return folder / "scores.tif"


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def joined(ids: Path, cuts: list[int], specs: list[Any], folder: Path, scores: Path | None) -> Path:
    """Write vectors in strips that begin at `cuts`; the last one is the height."""
    strips = []
    for number, rows in enumerate(itertools.pairwise(cuts)):
        strip = empty(folder / str(number))
        write_strip(ids, CLASSES, NODATA, specs, rows, strip, scores)
        strips.append({path.name: path for path in strip.iterdir()})
    outputs = empty(folder / "joined")
    join_strips(strips, cuts[1:-1], ids, CLASSES, NODATA, specs, outputs, scores)
    return outputs


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(
    seed=st.integers(0, 1 << 30),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    patch=st.integers(1, 8),
    noise=st.floats(0, 0.5),
    cuts=st.sets(st.integers(1, 39), max_size=5),
    with_scores=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_vectors_of_strips_have_the_bytes_of_one_pass(
    seed: int, shape: tuple[int, int], patch: int, noise: float, cuts: set[int], with_scores: bool
) -> None:
    random = np.random.default_rng(seed)
    patches = random.integers(0, 3, (shape[0] // patch + 1, shape[1] // patch + 1))
    ids = np.kron(patches, np.ones((patch, patch))).astype(np.uint8)[: shape[0], : shape[1]].copy()
    chosen = random.random(shape) < noise
    ids[chosen] = random.choice(np.array([0, 1, 2, NODATA], dtype=np.uint8), chosen.sum())
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        path = write_ids(folder, ids)
        scores = write_scores(folder, ids, seed) if with_scores else None
        once = empty(folder / "once")
        vectorize(path, CLASSES, NODATA, CARS, once, scores)
        rows = [0, *sorted(cut for cut in cuts if cut < shape[0]), shape[0]]
        assert contents(joined(path, rows, CARS, folder, scores)) == contents(once)


def spiral(size: int) -> np.ndarray:
    """Return a band of cars, one pixel wide, that winds from the border to the centre."""
    ids = np.ones((size, size), dtype=np.uint8)
    row, col, step = 0, 0, (0, 1)
    ids[0, 0] = 0
    turns = 0
    while turns < 2:
        ahead = (row + step[0], col + step[1])
        beyond = (ahead[0] + step[0], ahead[1] + step[1])
        inside = all(0 <= value < size for value in ahead)
        blocked = not inside or (all(0 <= value < size for value in beyond) and ids[beyond] == 0)
        if blocked:
            step, turns = (step[1], -step[0]), turns + 1
            continue
        (row, col), turns = ahead, 0
        ids[row, col] = 0
    return ids


def test_a_region_that_crosses_all_seams_is_one(tmp_path: Path) -> None:
    path = write_ids(tmp_path, spiral(31))
    specs: list[Any] = [{"class": "car"}]
    once = empty(tmp_path / "once")
    vectorize(path, CLASSES, NODATA, specs, once)
    result = joined(path, [0, 3, 11, 12, 30, 31], specs, tmp_path, None)
    assert contents(result) == contents(once)
    assert len((result / "car.geojson").read_text().splitlines()) == 3, "one feature between two lines"


def test_only_rows_that_regions_at_seams_reach_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.ones((400, 30), dtype=np.uint8)
    ids[10:20, 5:9] = ids[96:103, 4:8] = ids[300:310, 4:8] = 0
    path = write_ids(tmp_path, ids)
    read: list[tuple[int, int]] = []
    of_rows = regions.Regions.of_rows

    def noted(self: regions.Regions, class_id: int, rows: tuple[int, int]) -> Any:
        read.append(rows)
        return of_rows(self, class_id, rows)

    monkeypatch.setattr(regions.Regions, "of_rows", noted)
    joined(path, [0, 100, 200, 300, 400], [{"class": "car"}], tmp_path, None)
    # The third patch only touches a seam.
    assert read == [(0, 100), (100, 200), (200, 300), (300, 400), (96, 103), (300, 310)]


def test_regions_are_in_the_order_of_their_last_corners(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    path = write_ids(tmp_path, random.integers(0, 3, (300, 200)).astype(np.uint8))
    with regions.Regions(path, NODATA, tmp_path) as found:
        batches = list(found.batches(0, 0, 0.0))
    corners = regions.last_corners(np.concatenate(batches))
    assert len(batches) > 1, "several batches"
    assert corners.tolist() == sorted(corners.tolist()) and len(np.unique(corners, axis=0)) == len(corners)
    square = shapely.box([2, 0], [1, 0], [5, 1], [3, 7])
    assert regions.last_corners(square).tolist() == [[3, 5], [7, 1]]
