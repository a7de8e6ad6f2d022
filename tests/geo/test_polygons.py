from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import fiona
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import open_labels
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.placing import to_pixels
from rvbuild.geo.vector.shapes import polygons
from rvbuild.geo.write.rasters import ClassRasterWriter, ScoreRasterWriter
from rvbuild.geo.write.vectors import measures, regions
from rvbuild.geo.write.vectors.polygons import vectorize

Classes = list[dict[str, Any]]

HEIGHT, WIDTH = 150, 130
NULL = 3


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    rng = np.random.default_rng(0)
    made = np.kron(rng.integers(0, 3, (HEIGHT // 5, WIDTH // 5)), np.ones((5, 5))).astype(np.uint8)
    made[rng.random(made.shape) < 0.02] = 1
    made[:20] = NODATA
    return made


def write(path: Path, labels: np.ndarray, classes: Classes, transform: Affine, crs: CRS | None) -> Grid:
    grid = Grid(*labels.shape, transform, crs)
    with ClassRasterWriter(path, grid, classes, temp=path.parent) as writer:
        writer.write(0, labels)
    return grid


@pytest.fixture
def scene(tmp_path: Path, labels: np.ndarray, classes: Classes, grid: Grid) -> tuple[Path, Grid]:
    path = tmp_path / "labels.tif"
    return path, write(path, labels, classes, grid.transform, grid.crs)


@pytest.mark.slow
def test_polygons_come_back_to_the_same_pixels(
    tmp_path: Path, labels: np.ndarray, classes: Classes, place: tuple[Affine, CRS | None]
) -> None:
    grid = write(tmp_path / "labels.tif", labels, classes, *place)
    specs = [{"class": name, "format": format_} for name in ("car", "tree") for format_ in ("geojson", "gpkg")]
    written = vectorize(tmp_path / "labels.tif", classes, NODATA, specs, tmp_path)
    assert [path.name for path in written] == ["car.geojson", "car.gpkg", "tree.geojson", "tree.gpkg"]
    for path in written:
        class_id = ["car", "tree"].index(path.stem)
        with open_labels([path], {"kind": "vector"}, grid=grid, classes=classes, null_id=NULL) as source:
            np.testing.assert_array_equal(source.read(grid.window) == class_id, labels == class_id)


def test_the_same_bytes_each_time(tmp_path: Path, scene: tuple[Path, Grid], classes: Classes) -> None:
    specs = [
        {"class": "tree", "format": "gpkg", "simplify_px": 1.0, "denoise_px": 3, "min_area_units": 0.01},
        {"class": "car", "format": "geojson", "simplify_px": 1.0},
    ]
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        vectorize(scene[0], classes, NODATA, specs, tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"tree.gpkg", "tree.qml", "car.geojson", "car.qml"}


PROPERTIES = {"class_id": "int32", "class_name": "str", "area_m2": "float", "perimeter_m": "float"}


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_features_carry_the_mean_score_of_their_pixels(
    tmp_path: Path, classes: Classes, grid: Grid, kind: Literal["float32", "uint8"]
) -> None:
    labels = np.full((20, 20), NODATA, np.uint8)
    labels[2:8, 2:18], labels[12:16, 3:5] = 0, 0
    small = write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    scores = np.random.default_rng(0).uniform(size=(3, 20, 20)).astype(np.float32)
    with ScoreRasterWriter(tmp_path / "scores.tif", small, classes[:3], kind, temp=tmp_path) as writer:
        writer.write(0, scores, labels != NODATA)
    spec = {"class": "car", "format": "geojson"}
    (path,) = vectorize(tmp_path / "labels.tif", classes, NODATA, [spec], tmp_path, tmp_path / "scores.tif")
    means = sorted(feature["properties"]["score"] for feature in json.loads(path.read_text())["features"])
    expected = sorted([scores[0, 2:8, 2:18].mean(), scores[0, 12:16, 3:5].mean()])
    np.testing.assert_allclose(means, expected, atol=2e-3)


def test_geojson_is_as_rfc_7946_wants_it(tmp_path: Path, scene: tuple[Path, Grid], classes: Classes) -> None:
    (path,) = vectorize(scene[0], classes, NODATA, [{"class": "car", "format": "geojson"}], tmp_path)
    value = json.loads(path.read_text())
    assert set(value) == {"type", "features"}
    for feature in value["features"]:
        area, perimeter = feature["properties"].pop("area_m2"), feature["properties"].pop("perimeter_m")
        assert feature["properties"] == {"class_id": 0, "class_name": "car"}
        assert 0 < 4 * np.pi * area <= perimeter**2, "no shape has more area for its perimeter than a disc"
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry.exterior.is_ccw
        assert geometry.is_valid
        assert not any(ring.is_ccw for ring in geometry.interiors)
        assert 12 < geometry.centroid.x < 14, "longitude comes first"


def test_geopackage_is_in_the_crs_of_the_scene(tmp_path: Path, scene: tuple[Path, Grid], classes: Classes) -> None:
    (path,) = vectorize(scene[0], classes, NODATA, [{"class": "car", "format": "gpkg"}], tmp_path)
    with fiona.open(path) as collection:
        assert collection.crs.to_epsg() == 32633
        assert collection.name == "car"
        assert dict(collection.schema["properties"]) == PROPERTIES


def test_holes_are_kept(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    labels = np.full((20, 20), 2, np.uint8)
    labels[2:18, 2:18] = 0
    labels[5:9, 5:9] = 1
    write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    (path,) = vectorize(tmp_path / "labels.tif", classes, NODATA, [{"class": "car"}], tmp_path)
    (geometry,) = to_pixels(read_features(path), Grid(20, 20, grid.transform, grid.crs))
    assert len(geometry.interiors) == 1
    assert geometry.area == 16 * 16 - 16


def test_a_class_without_pixels_gets_an_empty_file(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    write(tmp_path / "labels.tif", np.full((20, 20), NODATA, np.uint8), classes, grid.transform, grid.crs)
    specs = [{"class": "car", "format": kind, "simplify_px": px} for kind, px in (("geojson", 0.0), ("gpkg", 2.0))]
    for path in vectorize(tmp_path / "labels.tif", classes, NODATA, specs, tmp_path):
        assert read_features(path).numbers == ()


def test_small_polygons_are_left_out(tmp_path: Path, scene: tuple[Path, Grid], classes: Classes) -> None:
    def areas(minimum: float) -> list[float]:
        spec = {"class": "tree", "format": "gpkg", "min_area_units": minimum}
        (path,) = vectorize(scene[0], classes, NODATA, [spec], tmp_path)
        return sorted(shapely.area(read_features(path).geometries).tolist())

    every = areas(0)
    limit = 0.05  # square metres: 20 pixels
    assert every[0] < limit
    assert areas(limit) == [area for area in every if area >= limit]


def test_small_patches_go_to_their_neighbours(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    labels = np.full((40, 40), 2, np.uint8)
    labels[10:30, 10:30] = 0
    labels[15:17, 15:17] = 1
    labels[2, 2] = labels[35:38, 5:8] = 0
    labels[:, 39] = NODATA
    labels[20, 38] = 1
    write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    specs = [
        {"class": "car", "format": "gpkg", "denoise_px": 3},
        {"class": "ground", "format": "gpkg", "denoise_px": 3},
    ]
    cars, ground = (
        to_pixels(read_features(path), Grid(40, 40, grid.transform, grid.crs))
        for path in vectorize(tmp_path / "labels.tif", classes, NODATA, specs, tmp_path)
    )
    assert sorted(shapely.area(cars).tolist()) == [9, 400]
    assert shapely.area(ground).sum() == 39 * 40 - 409, "nodata took nothing and got nothing"


def test_simplified_borders_are_shared(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    row, col = np.mgrid[:120, :120]
    labels = np.full((120, 120), 2, np.uint8)
    labels[col + 20 * np.sin(row / 15) > 60] = 0
    labels[row + 15 * np.sin(col / 20) > 80] = 1
    write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    specs = [{"class": name, "format": "gpkg", "simplify_px": 3.0} for name in ("car", "tree", "ground")]
    scene = Grid(120, 120, grid.transform, grid.crs)
    paths = vectorize(tmp_path / "labels.tif", classes, NODATA, specs, tmp_path)
    simple = np.concatenate([to_pixels(read_features(path), scene) for path in paths])
    assert shapely.is_valid(simple).all()
    assert shapely.coverage_is_valid(simple), "neither gaps nor overlaps"
    assert shapely.union_all(simple).area == pytest.approx(120 * 120, rel=0.02)
    exact = vectorize(tmp_path / "labels.tif", classes, NODATA, [{"class": "car", "format": "gpkg"}], tmp_path)
    vertices = len(shapely.get_coordinates(read_features(exact[0]).geometries))
    assert len(shapely.get_coordinates(simple)) < vertices / 2


def test_class_names_are_safe_as_file_names(tmp_path: Path, classes: Classes, scene: tuple[Path, Grid]) -> None:
    classes[0]["name"] = "../Straße: car/van"
    (path,) = vectorize(scene[0], classes, NODATA, [{"class": classes[0]["name"], "format": "geojson"}], tmp_path)
    assert path == tmp_path / "_Straße_ car_van.geojson"
    assert path.exists()


def test_mistakes_are_told(tmp_path: Path, classes: Classes, scene: tuple[Path, Grid]) -> None:
    with pytest.raises(DataError, match=r'predict\.vectors: there is no class "cars"'):
        vectorize(scene[0], classes, NODATA, [{"class": "cars"}], tmp_path)
    with pytest.raises(DataError, match=r"two entries would write car\.geojson"):
        vectorize(scene[0], classes, NODATA, [{"class": "car"}, {"class": "car"}], tmp_path)


def test_polygons_are_valid(tmp_path: Path, classes: Classes, scene: tuple[Path, Grid]) -> None:
    (path,) = vectorize(scene[0], classes, NODATA, [{"class": "ground", "format": "gpkg"}], tmp_path)
    geometries = read_features(path).geometries
    assert all(polygons(geometry) is geometry for geometry in geometries)


def test_points_lie_in_their_polygons(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    labels = np.full((40, 40), 2, np.uint8)
    labels[5:15, 5:15] = 0
    labels[20:38, 20:38] = 0
    labels[20:34, 24:38] = 2  # an L: its centre of mass is not in it
    write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    specs = [{"class": "car", "kind": "points", "file": f"cars.{suffix}"} for suffix in ("geojson", "gpkg", "fgb")]
    for path in vectorize(tmp_path / "labels.tif", classes, NODATA, specs, tmp_path):
        points = to_pixels(read_features(path), Grid(40, 40, grid.transform, grid.crs))
        coordinates = sorted(map(tuple, shapely.get_coordinates(points).tolist()))
        assert coordinates[0] == pytest.approx((10, 10), abs=1e-3)
        assert all(labels[int(y), int(x)] == 0 for x, y in coordinates)
        assert len(coordinates) == 2
    assert 'class="SimpleMarker"' in (tmp_path / "cars.qml").read_text()


def test_buildings_and_polygons_of_one_class(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    labels = np.full((60, 60), 2, np.uint8)
    labels[5:25, 5:35] = 0
    labels[25, 8:20] = 0  # a bump
    labels[40:42, 40:42] = 0
    write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    small = 100 * abs(grid.transform.determinant)
    buildings = {"class": "car", "kind": "buildings", "split": 0.5, "side_px": 5.0, "min_area_units": small}
    specs = [{"class": "car", "format": "fgb"}, {**buildings, "file": "outlines.fgb"}]
    exact, regular = (
        to_pixels(read_features(path), Grid(60, 60, grid.transform, grid.crs))
        for path in vectorize(tmp_path / "labels.tif", classes, NODATA, specs, tmp_path)
    )
    assert sorted(shapely.area(exact).round()) == [4, 612]
    (outline,) = regular
    assert len(outline.exterior.coords) == 5
    assert outline.intersection(shapely.box(5, 5, 35, 25)).area > 0.95 * 600


def test_flatgeobuf_is_in_the_crs_of_the_scene_with_the_same_bytes(
    tmp_path: Path, scene: tuple[Path, Grid], classes: Classes
) -> None:
    spec = {"class": "tree", "format": "fgb"}
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (path,) = vectorize(scene[0], classes, NODATA, [spec], tmp_path / name)
        contents.append(path.read_bytes())
        with fiona.open(path) as collection:
            assert collection.driver == "FlatGeobuf" and collection.crs.to_epsg() == 32633
            assert dict(collection.schema["properties"]) == PROPERTIES
            assert len(collection) > 10
    assert contents[0] == contents[1]
    (path,) = vectorize(scene[0], classes, NODATA, [{**spec, "min_area_units": 1e9}], tmp_path)
    assert read_features(path).numbers == ()


def test_a_raster_is_read_in_rows_and_features_are_written_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: np.ndarray, classes: Classes, grid: Grid
) -> None:
    """With the bytes that all at once give, and no array of the size of the scene."""
    made = write(tmp_path / "labels.tif", labels, classes, grid.transform, grid.crs)
    scores = np.random.default_rng(0).uniform(size=(3, HEIGHT, WIDTH)).astype(np.float32)
    with ScoreRasterWriter(tmp_path / "scores.tif", made, classes[:3], "float32", temp=tmp_path) as writer:
        writer.write(0, scores, labels != NODATA)
    specs = [
        {"class": "tree", "format": "geojson"},
        {"class": "car", "format": "gpkg", "denoise_px": 3},
        {"class": "tree", "file": "simple.fgb", "format": "flatgeobuf", "denoise_px": 3, "simplify_px": 1.0},
        {"class": "tree", "file": "points.geojson", "kind": "points", "min_area_units": 1.0},
        {"class": "ground", "kind": "buildings", "split": 0.5, "side_px": 2.0},
    ]
    contents = []
    for batch, block_px in ((regions.BATCH, measures._BLOCK_PX), (3, 5 * WIDTH)):
        monkeypatch.setattr(regions, "BATCH", batch)
        monkeypatch.setattr(measures, "_BLOCK_PX", block_px)
        folder = tmp_path / str(batch)
        folder.mkdir()
        vectorize(tmp_path / "labels.tif", classes, NODATA, specs, folder, tmp_path / "scores.tif")
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2 * len(specs), "temporary files are gone"
