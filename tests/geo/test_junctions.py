from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from rvbuild.geo.write.vectors import junctions as module
from rvbuild.geo.write.vectors.junctions import Outlines, junctions
from rvbuild.geo.write.vectors.regions import Regions

NODATA = 255


def write(path: Path, ids: np.ndarray) -> Path:
    height, width = ids.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8") as file:
        file.write(ids, 1)
    return path


def found(path: Path) -> list[np.ndarray]:
    """Return the polygons of all ids, in batches."""
    with Regions(path, NODATA, path.parent) as regions:
        return [geometries for geometries, _ in regions._regions(path)]


def outlined(path: Path, batches: list[np.ndarray]) -> np.ndarray:
    with rasterio.open(path) as ids:
        outlines = Outlines(junctions(ids, NODATA), ids.width)
    for geometries in batches:
        outlines.add(geometries)
    return outlines.polygons()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("junctions")


def random_ids(seed: int) -> np.ndarray:
    """Return patches of a few ids, some of them no data, with long straight sides and single pixels."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 40, 2))
    ids = np.full((height, width), rng.choice([0, NODATA]), dtype=np.uint8)
    for _ in range(rng.integers(0, 12)):
        row, col = rng.integers(0, height), rng.integers(0, width)
        rows, cols = rng.integers(1, height + 1), rng.integers(1, width + 1)
        ids[row : row + rows, col : col + cols] = rng.choice([0, 1, 2, NODATA])
    scattered = rng.random(ids.shape) < rng.choice([0, 0.02, 0.4])
    ids[scattered] = rng.choice(np.array([0, 1, 2, NODATA], dtype=np.uint8), scattered.sum())
    return ids


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@given(seed=st.integers(0, 1 << 32), tolerance_px=st.floats(0.1, 8), rows=st.integers(1, 12))
@example(seed=4, tolerance_px=2.0, rows=128)
def test_simplifies_as_with_a_vertex_at_each_pixel(folder: Path, seed: int, tolerance_px: float, rows: int) -> None:
    path = write(folder / "ids.tif", random_ids(seed))
    batches = found(path)
    if not batches:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", rows)
        few = outlined(path, batches)
    every = shapely.transform(shapely.segmentize(np.concatenate(batches), 1.0), np.rint)
    assert len(shapely.get_coordinates(few)) <= len(shapely.get_coordinates(every))
    expected, simple = (shapely.coverage_simplify(polygons, tolerance_px) for polygons in (every, few))
    assert (shapely.to_wkb(simple) == shapely.to_wkb(expected)).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_vertices_are_corners_and_junctions(tmp_path: Path) -> None:
    ids = np.zeros((6, 9), dtype=np.uint8)
    ids[3:, :4], ids[3:, 4:] = 1, 2
    path = write(tmp_path / "ids.tif", ids)
    with rasterio.open(path) as file:
        assert junctions(file, NODATA).tolist() == [3 * 10, 3 * 10 + 4, 3 * 10 + 9, 6 * 10 + 4]
    top = shapely.get_coordinates(outlined(path, found(path))[0])
    assert {tuple(vertex) for vertex in top.tolist()} == {(0, 0), (9, 0), (9, 3), (4, 3), (0, 3)}


def test_no_polygons_are_no_outlines() -> None:
    assert len(Outlines(np.empty(0, dtype=np.int64), 5).polygons()) == 0
