"""Tiles hold what direct reads give."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from rvbuild.engine.plan.decide import State
from rvbuild.errors import UsageError
from rvbuild.geo.windows import Window
from rvbuild.view.readers import Memo
from rvbuild.view.tiles import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    SHADE,
    SPLITS,
    TILE_PX,
    WRONG,
    Look,
    Tile,
    draw,
    evaluated_ids,
    label_ids,
    rows_of,
)

from .conftest import SIDE, Results, write_raster

WHOLE = Window(0, 0, SIDE, SIDE)


def tile(results: Results, layer: str, memo: Memo, look: Look | None = None, place: Tile | None = None) -> np.ndarray:
    png = draw(results.scene(), layer, place or Tile(1, 0, 0), look or Look(), memo)
    assert png is not None
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (TILE_PX, TILE_PX, 4)
    return picture


def read(results: Results) -> np.ndarray:
    with results.scene().image() as image:
        return image.read(WHOLE)[0]


def test_a_tile_holds_the_pixels_and_is_transparent_beyond_the_scene(pixels: Results, memo: Memo) -> None:
    picture = tile(pixels, "image", memo)
    np.testing.assert_array_equal(picture[:SIDE, :SIDE, :3], np.moveaxis(read(pixels), 0, -1))
    assert (picture[:SIDE, :SIDE, 3] == 255).all()
    assert not picture[SIDE:].any() and not picture[:, SIDE:].any()


@pytest.mark.parametrize("step", [2, 4, 16])
def test_a_coarse_tile_holds_the_middle_one_of_each_step(pixels: Results, memo: Memo, step: int) -> None:
    picture = tile(pixels, "image", memo, place=Tile(step, 0, 0))
    expected = np.moveaxis(read(pixels), 0, -1)[step // 2 :: step, step // 2 :: step]
    np.testing.assert_array_equal(picture[: SIDE // step, : SIDE // step, :3], expected)


def test_bands_can_be_chosen(pixels: Results, memo: Memo) -> None:
    picture = tile(pixels, "image", memo, Look(bands=(2, 0, 0)))
    np.testing.assert_array_equal(picture[:SIDE, :SIDE, 0], read(pixels)[2])
    with pytest.raises(UsageError, match="three bands from 0 to 2"):
        tile(pixels, "image", memo, Look(bands=(0, 1, 3)))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("transform", [None, Affine.translation(5e5, 5.8e6) * Affine.rotation(30) * Affine.scale(0.5)])
def test_any_dtype_is_stretched_and_any_grid_is_shown_in_its_pixels(
    pixels: Results, memo: Memo, dtype: str, transform: Affine | None
) -> None:
    ramp = np.linspace(100, 900, SIDE * SIDE).reshape(1, SIDE, SIDE).astype(dtype)
    ramp[0, 0, 0] = 0
    write_raster(pixels.root / "data/c.tif", ramp, transform, nodata=0)
    picture = tile(pixels, "image", memo)[:SIDE, :SIDE]
    assert picture[0, 0, 3] == 0 and (picture[..., 3] == 255).sum() == SIDE * SIDE - 1
    # A few per cent are black and white, and values rise in between.
    assert picture[0, 5, 0] == 0 and picture[-1, -1, 0] == 255
    assert (np.diff(picture[..., 0].ravel()[1:].astype(int)) >= 0).all()
    assert abs(int(picture[SIDE // 2, 0, 0]) - 127) < 6


def test_statistics_of_the_project_decide_the_contrast(pixels: Results, memo: Memo) -> None:
    image = np.full((1, SIDE, SIDE), 200, dtype=np.uint16)
    write_raster(pixels.root / "data/c.tif", image)
    histogram = {"start": 100, "width": 16, "counts": [1, *[0] * 11, 1]}
    band = {"count": 2, "mean": 200.0, "m2": 20000.0, "min": 100, "max": 300, "histogram": histogram}
    (pixels.folder("analyze", None, "stats.json") / "stats.json").write_text(json.dumps({"bands": [band]}))
    assert abs(int(tile(pixels, "image", memo)[0, 0, 0]) - 127) < 5


def test_labels_have_the_colours_of_their_classes(pixels: Results, memo: Memo) -> None:
    picture = tile(pixels, "labels", memo)
    with pixels.scene().labels() as labels:
        ids = labels.read(WHOLE)
    np.testing.assert_array_equal(picture[:SIDE, :SIDE, 0] == 255, ids == 0)
    np.testing.assert_array_equal(picture[:SIDE, :SIDE, 1] == 255, ids == 1)
    only = tile(pixels, "labels", memo, Look(classes=frozenset({0})))
    np.testing.assert_array_equal(only[:SIDE, :SIDE, 3] == 255, ids == 0)


def test_coarse_labels_are_those_of_the_pixels_that_are_shown(pixels: Results) -> None:
    scene = pixels.scene()
    fine, coarse = label_ids(scene, WHOLE, 1), label_ids(scene, WHOLE, 4)
    np.testing.assert_array_equal(coarse, fine[2::4, 2::4])


def test_errors_are_where_predictions_differ(pixels: Results, memo: Memo) -> None:
    truth = label_ids(pixels.scene(), WHOLE, 1)
    predicted = truth.copy()
    predicted[:10] = 0  # mostly ground there
    predicted[20:24, 10:20] = 1  # a building there
    pixels.predict_pixels(predicted)
    wrong = truth != predicted
    np.testing.assert_array_equal(tile(pixels, "errors", memo)[:SIDE, :SIDE, 3] == 255, wrong)
    of_buildings = tile(pixels, "errors", memo, Look(truth=0))[:SIDE, :SIDE]
    missed, extra = ((of_buildings == (*color, 255)).all(axis=-1) for color in (FALSE_NEGATIVE, FALSE_POSITIVE))
    np.testing.assert_array_equal(missed, (truth == 0) & wrong)
    np.testing.assert_array_equal(extra, (predicted == 0) & wrong)
    pair = tile(pixels, "errors", memo, Look(truth=0, predicted=1))[:SIDE, :SIDE]
    np.testing.assert_array_equal((pair == (*WRONG, 255)).all(axis=-1), (truth == 0) & (predicted == 1))


def test_errors_are_of_the_model_or_of_the_draft(pixels: Results, memo: Memo) -> None:
    truth = label_ids(pixels.scene(), WHOLE, 1)
    pixels.draft(1 - truth, state=State.STALE)
    with pytest.raises(UsageError, match="there are no predictions"):
        tile(pixels, "errors", memo)
    assert (tile(pixels, "errors", memo, Look(of="draft"))[:SIDE, :SIDE, 3] == 255).all()
    drafted = tile(pixels, "draft", memo)[:SIDE, :SIDE]
    np.testing.assert_array_equal(drafted[..., 0] == 255, truth == 1)
    layers = pixels.scene().describe()["layers"]
    assert layers["draft"]["state"] == "stale"
    assert {of: layer["state"] for of, layer in layers["errors"]["of"].items()} == {"draft": "stale"}
    pixels.predict_pixels(truth)
    assert list(pixels.scene().describe()["layers"]["errors"]["of"]) == ["prediction", "draft"]
    assert not tile(pixels, "errors", memo).any()


def test_what_lies_outside_of_the_area_is_shaded_and_no_error(pixels: Results, memo: Memo) -> None:
    ring = [[500000 + x * 0.5, 5800000 - y * 0.5] for x, y in [(0, 0), (32, 0), (32, 64), (0, 64), (0, 0)]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]})
    (pixels.root / "data/aoi.geojson").write_text(text)
    pixels.edit("[chip]", '[scenes.by_id.c]\naoi = "data/aoi.geojson"\n\n[chip]')
    pixels.predict_pixels(np.zeros((SIDE, SIDE), dtype=np.uint8))
    shaded = (tile(pixels, "area", memo)[:SIDE, :SIDE] == SHADE).all(axis=-1)
    assert not shaded[:, :32].any() and shaded[:, 32:].all()
    assert not tile(pixels, "errors", memo)[:SIDE, 32:SIDE].any()


def test_pixels_without_a_prediction_are_errors_of_their_class(pixels: Results) -> None:
    pixels.predict_pixels(np.full((SIDE, SIDE), 255, dtype=np.uint8))
    truth, predicted = evaluated_ids(pixels.scene(), WHOLE, 1)
    assert set(np.unique(truth)) == {0, 1} and (predicted == pixels.scene().null_id).all()


def test_scores_go_from_dark_to_bright(pixels: Results, memo: Memo) -> None:
    scores = np.zeros((2, SIDE, SIDE), dtype=np.uint8)
    scores[0, :, :32], scores[1, :, :32] = 255, 0
    scores[:, :, 32:] = 128
    write_raster(pixels.folder("infer", "c", "raw_labels.tif", "scores.tif") / "scores.tif", scores)
    margin = tile(pixels, "scores", memo)
    assert margin[0, 0, :3].sum() < 20 and margin[0, 40, :3].sum() > 650
    assert tile(pixels, "scores", memo, Look(score="0"))[0, 0, :3].sum() > 650
    with pytest.raises(UsageError, match="no scores of '7'"):
        tile(pixels, "scores", memo, Look(score="7"))


def test_places_and_layers_that_are_not_there(pixels: Results, memo: Memo) -> None:
    assert draw(pixels.scene(), "image", Tile(1, 1, 0), Look(), memo) is None
    with pytest.raises(UsageError, match="no layer 'immage'"):
        draw(pixels.scene(), "immage", Tile(1, 0, 0), Look(), memo)
    with pytest.raises(UsageError, match="a step from 1"):
        draw(pixels.scene(), "image", Tile(0, 0, 0), Look(), memo)
    with pytest.raises(UsageError, match="there are no predictions"):
        draw(pixels.scene(), "prediction", Tile(1, 0, 0), Look(), memo)


def test_code_that_is_not_trusted_reads_no_pixels(results_of: Callable[[str], Results], memo: Memo) -> None:
    results = results_of("segmentation")
    (results.root / "own.py").write_text("def half(image, valid):\n    return image // 2\n")
    image = 'image = { files = "data/{id}.tif", transform = [{ kind = "function", function = "own:half" }] }'
    results.edit('image = "data/{id}.tif"', image)
    with pytest.raises(UsageError, match="rvbuild view --trust"):
        tile(results, "image", memo)


def test_rows_of_reads_one_row_at_a_time_where_it_skips_some() -> None:
    read_windows = []

    def reading(window: Window) -> np.ndarray:
        read_windows.append(window)
        return (
            np.arange(window.col, window.col_stop)[np.newaxis] + 100 * np.arange(window.row, window.row_stop)[:, None]
        )

    assert rows_of(reading, Window(4, 8, 4, 4), 2).tolist() == [[509, 511], [709, 711]]
    assert read_windows == [Window(5, 8, 1, 4), Window(7, 8, 1, 4)]


def test_scenes_of_one_image_are_told_apart_by_their_splits(pixels: Results, memo: Memo) -> None:
    assert "splits" not in pixels.scene().describe()["layers"]
    pixels.edit('image = "data/{id}.tif"', 'image = "data/c.tif"')
    halves = {"a": (0, 32), "c": (32, 64)}
    for scene, (left, right) in halves.items():
        ring = [[500000 + x * 0.5, 5800000 - y * 0.5] for x, y in [(left, 0), (right, 0), (right, 64), (left, 64)]]
        feature = {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        }
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
        content = {"type": "FeatureCollection", "crs": crs, "features": [feature]}
        (pixels.root / f"data/{scene}_aoi.geojson").write_text(json.dumps(content))
    tables = "".join(f'[scenes.by_id.{scene}]\naoi = "data/{scene}_aoi.geojson"\n' for scene in halves)
    pixels.edit("[chip]", f'{tables}[scenes.by_id.b]\nimage = "data/b.tif"\n\n[chip]')
    assert "splits" in pixels.scene().describe()["layers"]
    picture = tile(pixels, "splits", memo)[:SIDE, :SIDE]
    assert (picture[:, :32] == (*SPLITS["train"], 255)).all()
    assert (picture[:, 32:] == (*SPLITS["validation"], 255)).all()
