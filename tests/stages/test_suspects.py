"""The suspects stage: errors among many right labels are found, whatever kind they are of, with the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.progress import Silent
from rvbuild.review.shapes import area_of
from rvbuild.review.suspect import Suspect, read_suspects
from rvbuild.stages.draft import features, sums
from rvbuild.stages.review import maps, suspects
from rvbuild.tasks.classification.cells import no_cells, write_cells
from rvbuild.tasks.pixel_scores import open_scores
from tests.stages.sample_scenes import write_aoi, write_raster

SIDE, STEP = 480, 48
NULL = 3
CLASSES = [
    {"id": 0, "name": "barn", "color": "#ff0000"},
    {"id": 1, "name": "pond", "color": "#0000ff"},
    {"id": 2, "name": "ground", "color": "#00ff00"},
    {"id": NULL, "name": "null", "color": "#000000"},
]
VECTORS = {
    "kind": "vector",
    "layer": None,
    "class": None,
    "class_attribute": "label",
    "class_map": None,
    "background": "ground",
    "unknown": "error",
    "buffer_px": {},
    "all_touched": False,
}
BARN, POND, GROUND = (200, 120, 60), (40, 60, 150), (110, 130, 90)


class Object(NamedTuple):
    area: Any
    class_id: int


def objects() -> list[Object]:
    """Return barns and ponds in a grid, with gaps."""
    rng = np.random.default_rng(5)
    found = []
    for number, (row, col) in enumerate(np.ndindex(SIDE // STEP, SIDE // STEP)):
        if number % 4 != 3:
            width, height = rng.uniform(16, 26, 2)
            x, y = col * STEP + rng.uniform(6, 18), row * STEP + rng.uniform(6, 18)
            found.append(Object(shapely.box(x, y, x + width, y + height), int(rng.integers(2))))
    return found


def image(shapes: Sequence[Object]) -> np.ndarray:
    ids = rasterio.features.rasterize([tuple(each) for each in shapes], (SIDE, SIDE), fill=2, dtype="uint8")
    colors = np.array([BARN, POND, GROUND])[ids]
    noise = np.random.default_rng(0).normal(0, 14, colors.shape)
    return np.moveaxis(np.clip(colors + noise, 1, 255).astype("uint8"), -1, 0)


def write_labels(path: Path, shapes: Sequence[Object]) -> Path:
    transform = Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)
    placed = [
        shapely.transform(each.area, lambda points: np.stack(transform * tuple(points.T), axis=1)) for each in shapes
    ]
    described = [
        {
            "type": "Feature",
            "properties": {"label": CLASSES[each.class_id]["name"]},
            "geometry": shapely.geometry.mapping(area),
        }
        for each, area in zip(shapes, placed, strict=True)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": described}))
    return path


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("features")
    path = write_raster(folder / "a.tif", image(objects()))
    into = folder / "features"
    into.mkdir()
    settings = {
        "image": {"nodata": None},
        "channels": None,
        "encoder": {"encoder": "random", "stride_px": 4},
        "block_px": 96,
    }
    features.run({"image": [path]}, settings, into, Silent())
    return sorted(into.iterdir())


def review(
    folder: Path, encoded: list[Path], labels: Path, settings: dict[str, Any] = VECTORS, aoi: Path | None = None
) -> list[Suspect]:
    """Return the suspects of a scene that trains; `suspects.json` is in `folder / "suspects"`."""
    of_labels = {"labels": settings, "classes": CLASSES}
    summed, into = folder / "sums", folder / "suspects"
    summed.mkdir(parents=True)
    into.mkdir()
    area = {} if aoi is None else {"aoi": [aoi]}
    common = {"task": "semantic_segmentation", "null_id": NULL, "background": False}
    sums.run(
        {"features": encoded, "labels": [labels], **area},
        {**common, **of_labels, "scene": "a", "folds": 5, "first_fold": 1},
        summed,
        Silent(),
    )
    suspects.run(
        {
            "sums/a": sorted(summed.iterdir()),
            "features/a": encoded,
            "labels/a": [labels],
            **({} if aoi is None else {"aoi/a": [aoi]}),
        },
        {**common, "classes": CLASSES, "scenes": [{"scene": "a", "seed": 3, **of_labels}], "most_made": 1000},
        into,
        Silent(),
    )
    assert [path.name for path in into.iterdir()] == ["suspects.json"]
    return read_suspects(into / "suspects.json")


def moved(area: Any, x: float, y: float) -> Any:
    return shapely.transform(area, lambda points: points + np.array([x, y]))


def test_errors_of_each_kind_come_first(tmp_path: Path, encoded: list[Path]) -> None:
    shapes = objects()
    missing, wrong, copied = 10, 20, 30
    labels = list(shapes)
    labels[wrong] = shapes[wrong]._replace(class_id=1 - shapes[wrong].class_id)
    labels[40] = shapes[40]._replace(area=moved(shapes[40].area, 18, -14))
    labels.append(shapes[copied]._replace(area=moved(shapes[copied].area, 1, 1)))
    gap = Object(moved(shapely.box(0, 0, 20, 20), 3 * STEP + 10, 10), 0)
    labels.append(gap)
    del labels[missing]
    found = review(tmp_path, encoded, write_labels(tmp_path / "a.geojson", labels))
    first = {(suspect.kind, suspect.source.place if suspect.source else None): suspect for suspect in found[:5]}
    copies = {copied - 1, len(labels) - 2}
    assert {kind for kind, _ in first} == {"class", "outline", "missing", "spurious", "duplicate"}
    assert first["spurious", len(labels) - 1].label_class == "barn"
    changed = first["class", wrong - 1]
    assert (changed.label_class, changed.proposed_class) == tuple(
        CLASSES[each[wrong].class_id]["name"] for each in ([*labels[:missing], None, *labels[missing:]], shapes)
    )
    assert {place for kind, place in first if kind == "duplicate"} < copies
    absent = next(suspect for suspect in found[:5] if suspect.kind == "missing")
    assert iou(absent, shapes[missing].area) > 0.6
    assert absent.proposed_class == CLASSES[shapes[missing].class_id]["name"]
    better = first["outline", 39].proposed_polygon
    assert better is not None
    assert shapely.intersection(area_of(better), shapes[40].area).area > 0.6 * shapes[40].area.area
    assert all(suspect.score > 0.3 for suspect in found[:5])
    assert all(suspect.score < 0.2 for suspect in found[5:])
    assert all("%" in suspect.reason for suspect in found[:5])


def iou(suspect: Suspect, area: Any) -> float:
    other = area_of(suspect.polygon)
    shared = shapely.intersection(other, area).area
    return float(shared / (other.area + area.area - shared))


def test_the_same_labels_give_the_same_bytes_and_ids_stay(tmp_path: Path, encoded: list[Path]) -> None:
    shapes = objects()[3:]
    labels = write_labels(tmp_path / "a.geojson", shapes)
    first = review(tmp_path / "1", encoded, labels)
    again = review(tmp_path / "2", encoded, labels)
    assert first == again
    files = [tmp_path / number / "suspects" / "suspects.json" for number in "12"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sum(suspect.kind == "missing" for suspect in first[:3]) == 3
    edited = review(tmp_path / "3", encoded, write_labels(tmp_path / "b.geojson", shapes[:-1]))
    assert {suspect.id for suspect in first[:3]} <= {suspect.id for suspect in edited}


def test_label_rasters_are_reviewed_by_their_connected_areas(tmp_path: Path, encoded: list[Path]) -> None:
    shapes = objects()
    wrong = shapes[20]._replace(class_id=1 - shapes[20].class_id)
    drawn = [*shapes[:10], *shapes[11:20], wrong, *shapes[21:]]
    ids = rasterio.features.rasterize([tuple(each) for each in drawn], (SIDE, SIDE), fill=2, dtype="uint8")
    path = write_raster(tmp_path / "a.tif", ids[np.newaxis])
    settings = {
        "kind": "raster",
        "encoding": "id",
        "map": None,
        "other": "error",
        "nodata": None,
        "resample": "error",
    }
    first, second = review(tmp_path, encoded, path, settings)[:2]
    assert {first.kind, second.kind} == {"class", "missing"}
    changed, absent = (first, second) if first.kind == "class" else (second, first)
    assert iou(changed, shapes[20].area) > 0.8
    assert changed.source is not None
    assert changed.source.place is None
    assert iou(absent, shapes[10].area) > 0.5


def test_what_lies_outside_the_area_of_interest_is_not_reviewed(tmp_path: Path, encoded: list[Path]) -> None:
    shapes = objects()[:-12]
    area = write_aoi(tmp_path / "aoi.geojson", (0, 0, SIDE // 2, SIDE))
    found = review(tmp_path, encoded, write_labels(tmp_path / "a.geojson", shapes), aoi=area)
    inside = shapely.box(0, 0, SIDE, SIDE // 2 + 12)
    assert all(inside.covers(area_of(suspect.polygon).centroid) for suspect in found)


def test_an_object_on_the_edge_of_the_area_keeps_its_label(tmp_path: Path, encoded: list[Path]) -> None:
    shapes = objects()
    edge = 4 * STEP + 20
    cut = [each.area for each in shapes if each.area.bounds[0] < edge < each.area.bounds[2]]
    assert any(shapely.intersection(area, shapely.box(0, 0, edge, SIDE)).area < 0.4 * area.area for area in cut)
    labels = write_labels(tmp_path / "a.geojson", [*shapes[:6], *shapes[7:]])
    suspects = review(tmp_path, encoded, labels, aoi=write_aoi(tmp_path / "aoi.geojson", (0, 0, SIDE, edge)))
    assert not [
        suspect for suspect in suspects for area in cut if suspect.kind == "missing" and iou(suspect, area) > 0.1
    ]
    for suspect in suspects:
        outline = area_of(suspect.polygon)
        assert shapely.intersection(outline, shapely.box(0, 0, edge, SIDE)).area >= 0.5 * outline.area


def test_labels_of_a_class_that_only_one_part_has_are_not_judged(tmp_path: Path, encoded: list[Path]) -> None:
    barns = [each for each in objects() if each.class_id == 0]
    pond = next(each for each in objects() if each.class_id == 1)
    suspects = review(tmp_path, encoded, write_labels(tmp_path / "a.geojson", [*barns, pond]))
    assert not [suspect for suspect in suspects if iou(suspect, pond.area) > 0.5]


def test_few_labels_give_no_suspects_and_no_labels_are_an_error(tmp_path: Path, encoded: list[Path]) -> None:
    assert review(tmp_path, encoded, write_labels(tmp_path / "a.geojson", objects()[:1])) is not None
    with pytest.raises(DataError, match="nothing to compare labels with"):
        review(tmp_path / "none", encoded, write_labels(tmp_path / "b.geojson", []), {**VECTORS, "background": None})


def test_scores_of_a_trained_model_count_where_there_are_some(tmp_path: Path) -> None:
    scores = np.full((2, 8, 12), 0.25, dtype=np.float32)
    scores[1] = 0.75
    scores[:, :, 8:] = np.nan
    path = write_raster(tmp_path / "scores.tif", scores, nodata=float("nan"))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("pond", "barn")
    odds = maps._trained(open_scores(path, CLASSES), Window(0, 0, 8, 12), 4, 4)
    assert odds.shape == (4, 2, 3)
    assert np.allclose(odds[0, :, :2], np.log(3))
    assert np.allclose(odds[1, :, :2], -np.log(3))
    assert np.isnan(odds[:2, :, 2]).all()
    assert np.isnan(odds[2:]).all()


def test_pixels_have_the_scores_of_their_cell(tmp_path: Path) -> None:
    grid = Grid(8, 12, Affine.identity(), None)
    cells = no_cells(grid, 5, [0, 1])
    cells.scores[:, :2] = (0.75, 0.25)
    cells.scores[0, 0] = (0.5, 0.5)
    write_cells(tmp_path / "cells.json", cells)
    scores = open_scores(tmp_path / "cells.json", CLASSES)
    assert scores(Window(2, 3, 4, 4))[0].tolist() == [[0.5, 0.5, 0.75, 0.75]] * 3 + [[0.75] * 4]
    odds = maps._trained(scores, Window(0, 0, 8, 12), 4, 4)
    assert odds[0, 0, 0] == 0 and np.isnan(odds[:, :, 2]).all() and np.isnan(odds[2:]).all()
    share = (15 * 0.75 + 0.5) / 16  # one pixel of this place is of the first cell
    assert np.allclose(odds[:2, 1, 1], [np.log(share / (1 - share)), np.log((1 - share) / share)])
