"""Nothing moves: image, labels, chips, predictions, polygons and polygons rasterized again agree to the pixel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import shapely
import shapely.geometry
import torch
from affine import Affine
from rasterio.crs import CRS
from safetensors.numpy import load_file

from rvbuild.geo.labels.open import open_labels
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.progress import Silent
from rvbuild.stages.chip import stage as chip
from rvbuild.stages.evaluate import merge as evaluate_merge
from rvbuild.stages.evaluate import scene as evaluate
from rvbuild.tasks.segmentation import task as task
from tests.geo.conftest import LOCAL, PLACES
from tests.stages.sample_scenes import (
    CLASSES,
    NULL,
    chip_settings,
    empty,
    label_array,
    predict_scene,
    predict_settings,
    write_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")

HEIGHT, WIDTH = 61, 83
BBOX = (7, 11, 66, 58)
"""Column, row, column stop, row stop: no multiple of anything."""

MORE_PLACES: dict[str, tuple[Affine, CRS | None]] = {
    **PLACES,
    "rotated degrees": (Affine(8e-6, 6e-6, 13.1, 6e-6, -8e-6, 52.4), CRS.from_epsg(4326)),
    "south-up degrees": (Affine(1e-5, 0, -70.3, 0, 1e-5, -33.4), CRS.from_epsg(4326)),
    "Mercator": (Affine(0.3, 0, 1_490_000, 0, -0.3, 6_890_000), CRS.from_epsg(3857)),
}
VECTORS = {
    "kind": "vector",
    "layer": None,
    "class": None,
    "class_attribute": "kind",
    "class_map": None,
    "background": None,
    "all_touched": False,
    "buffer_px": {},
    "unknown": "error",
}
VALUES = np.array([50, 150, 0], dtype=np.uint8)
"""What the image is where the classes car, tree and null are; 0 is nodata."""


class Scene:
    """An image that shows its labels, and the labels as polygons made with rasterio alone."""

    def __init__(self, folder: Path, transform: Affine, crs: CRS | None, bbox: tuple[int, ...] | None) -> None:
        self.folder, self.transform, self.crs = folder, transform, crs
        self.labels = label_array(HEIGHT, WIDTH)
        self.image = VALUES[self.labels]
        self.image_settings: dict[str, Any] = {"nodata": None}
        col, row, col_stop, row_stop = bbox or (0, 0, WIDTH, HEIGHT)
        self.shown = np.s_[row:row_stop, col:col_stop]
        if bbox:
            self.image_settings["bbox"] = {"px": list(bbox)}
        place = {} if crs is None and transform.is_identity else {"transform": transform}
        profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint8", "nodata": 0}
        with rasterio.open(folder / "image.tif", "w", crs=crs, **place, **profile) as file:
            file.write(np.stack([self.image] * 3))

    def polygons(self, path: Path, crs: CRS | None) -> Path:
        """Write the labels as polygons."""
        schema = {"geometry": "Polygon", "properties": {"kind": "str"}}
        shapes = list(rasterio.features.shapes(self.labels, mask=self.labels != NULL, transform=self.transform))
        driver = "GPKG" if path.suffix == ".gpkg" else "GeoJSON"
        more = {} if driver == "GPKG" else {"COORDINATE_PRECISION": "15"}
        wkt = None if crs is None else crs.to_wkt()
        with fiona.open(path, "w", driver=driver, schema=schema, crs_wkt=wkt, **more) as file:
            for geometry, value in shapes:
                if crs is not None and crs != self.crs:
                    geometry = rasterio.warp.transform_geom(self.crs, crs, geometry, precision=-1)
                name = str(CLASSES[int(value)]["name"])
                file.write({"type": "Feature", "properties": {"kind": name}, "geometry": geometry})
        return path

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "image": self.image_settings}

    def read(self, files: list[Path], settings: dict[str, Any]) -> np.ndarray:
        """Return labels on the grid of the scene."""
        with (
            self.open() as image,
            open_labels(files, settings, grid=image.grid, classes=CLASSES, null_id=NULL) as source,
        ):
            return source.read(image.grid.window)

    @contextmanager
    def open(self) -> Iterator[Any]:
        settings = self.settings({"channels": None})
        with open_scene_image([self.folder / "image.tif"], settings) as image:
            yield image


def see(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Predict what the image shows: (N, 2, H, W) probabilities of car and tree."""
    value = images[:, 0].numpy() * 255
    tree = (np.abs(value - VALUES[1]) < np.abs(value - VALUES[0])).astype(np.float32)
    return np.stack([1 - tree, tree], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("bbox", [None, BBOX], ids=["whole", "bbox"])
@pytest.mark.parametrize("place", MORE_PLACES)
def test_the_way_from_the_image_and_back_is_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, bbox: tuple[int, ...] | None
) -> None:
    transform, crs = MORE_PLACES[place]
    scene = Scene(tmp_path, transform, crs, bbox)
    truth = scene.labels[scene.shown]
    lon_lat = CRS.from_epsg(4326) if crs and place != "local" else None
    files = {
        "gpkg": scene.polygons(tmp_path / "labels.gpkg", crs),
        "geojson": scene.polygons(tmp_path / "labels.geojson", lon_lat),
    }
    for path in files.values():
        np.testing.assert_array_equal(scene.read([path], VECTORS), truth)

    inputs = {"image": [tmp_path / "image.tif"], "labels": [files["geojson"]], "aoi": []}
    chips = empty(tmp_path / "chips")
    cut = {**chip_settings(size_px=16, stride_px=12), "labels": VECTORS}
    chip.run(inputs, scene.settings(cut), chips, Silent())
    check_chips(chips, truth, scene.image[scene.shown])

    monkeypatch.setattr(task, "forward", see)
    outputs = empty(tmp_path / "predicted")
    vectors = [
        {"class": name, "format": form, "min_area_units": 0.0, "simplify_px": 0.0, "denoise_px": 0}
        for name in ("car", "tree")
        for form in ("geojson", "gpkg")
    ]
    inputs["model"] = write_model(tmp_path / "model")
    predict_scene(inputs, scene.settings(predict_settings(vectors=vectors)), outputs)
    with rasterio.open(outputs / "labels.tif") as file, scene.open() as image:
        np.testing.assert_array_equal(file.read(1), np.where(truth == NULL, 255, truth))
        assert (file.transform, file.crs) == (image.grid.transform, image.grid.crs)

    raster = {"kind": "raster", "encoding": "id", "map": None, "other": "error", "nodata": 255, "resample": "error"}
    np.testing.assert_array_equal(scene.read([outputs / "labels.tif"], raster), truth)
    named = {**VECTORS, "class_attribute": "class_name"}
    for form in ("geojson", "gpkg"):
        labels = scene.read([outputs / f"car.{form}", outputs / f"tree.{form}"], named)
        np.testing.assert_array_equal(labels, truth)
        for name in ("car", "tree"):
            assert off_the_corners(outputs / f"{name}.{form}", scene) < 1e-5

    scored = empty(tmp_path / "scored")
    options = {"task": cut["task"], "scene": "a", "labels": VECTORS, "classes": CLASSES, "null_id": NULL, "eval": {}}
    against = {"predictions": [outputs / "labels.tif"], "labels": [files["gpkg"]], "aoi": []}
    evaluate.run(against, options, scored, Silent())
    confusion = np.array(json.loads((scored / "eval.json").read_text())["confusion"])
    assert np.trace(confusion) == confusion.sum() == (truth != NULL).sum()


def off_the_corners(path: Path, scene: Scene) -> float:
    """Return how far vertices lie from corners of pixels of the image, in pixels, at most; by rasterio alone."""
    with fiona.open(path) as file:
        crs = CRS.from_wkt(file.crs_wkt) if file.crs_wkt and scene.crs not in (None, LOCAL) else None
        shapes = [shapely.geometry.shape(feature.geometry) for feature in file]
    x, y = shapely.get_coordinates(shapes).T
    if crs is not None and crs != scene.crs:
        x, y = map(np.array, rasterio.warp.transform(crs, scene.crs, x, y))
    there = np.stack(~scene.transform * (x, y))
    assert len(shapes) > 1
    return float(np.abs(there - np.rint(there)).max())


AREAS = [
    # A hole, and borders off the pixels' borders.
    shapely.Polygon(
        [(5.3, 4.2), (40.7, 7.1), (33.4, 50.6), (9.2, 44.9)],
        [[(15.1, 15.2), (25.4, 16.8), (22.9, 30.3), (14.6, 28.4)]],
    ),
    # Of two parts, smaller than a window, one beyond the edge of the image.
    shapely.MultiPolygon([shapely.box(50.2, 20.4, 60.9, 27.6), shapely.box(70.3, 50.7, 95.1, 75.2)]),
]
"""In pixels of the whole image."""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["north-up", "south-up", "rotated", "degrees", "rotated degrees", "world file"])
def test_predictions_and_scores_are_those_of_the_area_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    transform, crs = MORE_PLACES[place]
    scene = Scene(tmp_path, transform, crs, None)
    size = {"out_shape": (HEIGHT, WIDTH)}
    inside = rasterio.features.rasterize(AREAS, **size).astype(bool) & (scene.labels != NULL)
    lon_lat = CRS.from_epsg(4326) if crs and place != "local" else None
    aoi = [
        write_area(tmp_path / "one.geojson", AREAS[0], scene, lon_lat),
        write_area(tmp_path / "two.gpkg", AREAS[1], scene, crs),
    ]
    monkeypatch.setattr(task, "forward", lambda model, images: see(model, images)[:, ::-1])
    outputs = empty(tmp_path / "predicted")
    inputs = {"image": [tmp_path / "image.tif"], "aoi": aoi, "model": write_model(tmp_path / "model")}
    predict_scene(inputs, scene.settings(predict_settings(stride_px=16)), outputs)
    with rasterio.open(outputs / "labels.tif") as file:
        predicted = file.read(1)
    np.testing.assert_array_equal(predicted != 255, inside)

    labels = scene.polygons(tmp_path / "labels.gpkg", crs)
    options = {"task": "semantic_segmentation", "labels": VECTORS, "classes": CLASSES, "null_id": NULL, "eval": {}}
    scored, merged = empty(tmp_path / "scored"), empty(tmp_path / "merged")
    against = {"predictions": [outputs / "labels.tif"], "labels": [labels], "aoi": aoi}
    evaluate.run(against, {**options, "scene": "a"}, scored, Silent())
    confusion = np.array(json.loads((scored / "eval.json").read_text())["confusion"])
    assert confusion.sum() == inside.sum() > 0
    assert np.trace(confusion) == 0
    evaluate_merge.run({"eval/a": [scored / "eval.json"]}, options, merged, Silent())
    average = json.loads((merged / "eval.json").read_text())["overall"][-1]
    assert average["class_name"] == "average"
    assert average["metrics"]["f1"] == 0, "what lies outside the area is no success"


def write_area(path: Path, area: Any, scene: Scene, crs: CRS | None) -> Path:
    """Write an area in pixels of the image as a vector file."""
    x, y = shapely.get_coordinates(area).T
    a, b, c, d, e, f = scene.transform[:6]
    x, y = a * x + b * y + c, d * x + e * y + f
    if crs is not None and crs != scene.crs:
        x, y = rasterio.warp.transform(scene.crs, crs, x, y)
    geometry = shapely.geometry.mapping(shapely.set_coordinates(area, np.stack([x, y], axis=1)))
    driver = "GPKG" if path.suffix == ".gpkg" else "GeoJSON"
    more = {} if driver == "GPKG" else {"COORDINATE_PRECISION": "15"}
    schema = {"geometry": area.geom_type, "properties": {}}
    with fiona.open(
        path, "w", driver=driver, schema=schema, crs_wkt=None if crs is None else crs.to_wkt(), **more
    ) as file:
        file.write({"type": "Feature", "properties": {}, "geometry": geometry})
    return path


def check_chips(folder: Path, labels: np.ndarray, image: np.ndarray) -> None:
    """Compare every chip with the scene at its window."""
    height, width = labels.shape
    labels = np.pad(labels, ((0, 16), (0, 16)), constant_values=NULL)
    image = np.pad(image, ((0, 16), (0, 16)))
    images, targets = load_file(folder / "images-00000.safetensors"), load_file(folder / "labels-00000.safetensors")
    seen = np.zeros(labels.shape, bool)
    for number, (row, col, size, _) in enumerate(images["windows"].tolist()):
        here = np.s_[row : row + size, col : col + size]
        seen[here] = True
        np.testing.assert_array_equal(targets["labels"][number], labels[here])
        np.testing.assert_array_equal(images["images"][number], np.stack([image[here]] * 3))
    assert seen[:height, :width].all()
