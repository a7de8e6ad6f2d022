"""Verdicts applied to label rasters: pixels change, and the profile, palette and tags stay."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.enums import Resampling

from rvbuild.errors import DataError
from rvbuild.review.accepted import Accepted
from rvbuild.review.applying.plan import plan
from rvbuild.review.shapes import rings_of
from tests.review.conftest import CLASSES, GRID, NULL
from tests.review.test_applying import Case
from tests.review.test_labels import RASTER

AREA, NEW = shapely.box(3, 2, 9, 6), shapely.box(40, 5, 44, 9)


def case_of(tmp_path, write_raster, name="a.tif", values=(0, 1, NULL), dtype=np.uint8, options=(), **profile):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    tree, car, null = values
    pixels = np.full((40, 60), null, dtype=dtype)
    pixels[2:6, 3:9], pixels[30:, 50:] = tree, car
    path = write_raster(name, pixels, **profile)
    return Case(tmp_path, image, [path], {**RASTER, **dict(options)})


def verdict(case, kind, label, new, shape):
    rings = rings_of(shape)
    if kind == "missing":
        return Accepted("0" * 16, "a", kind, None, new, None, None, None, None, rings)
    digest = case.current().raster_digest(0, rings)
    name = case.scene.label_names[0]
    return Accepted("1" * 16, "a", kind, label, new, name, None, None, digest, None, rings)


def pixels_of(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_pixels_of_a_class_and_new_ones(tmp_path, write_raster):
    profile = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "nodata": 200}
    colors = {0: (1, 2, 3, 255), 1: (4, 5, 6, 255)}
    case = case_of(tmp_path, write_raster, colormap=colors, **profile)
    with rasterio.open(case.files[0], "r+") as file:
        file.update_tags(author="me")
        file.set_band_description(1, "labels")
        file.build_overviews([2, 4], Resampling.nearest)
    before = pixels_of(case.files[0])
    area = shapely.box(2, 1, 7, 9)  # more than the label: its other pixels stay
    (copy,) = case.apply(verdict(case, "class", "tree", "car", area), verdict(case, "missing", None, "tree", NEW))
    expected = before.copy()
    expected[2:6, 3:7], expected[5:9, 40:44] = 1, 0
    assert np.array_equal(pixels_of(copy), expected)
    with rasterio.open(case.files[0]) as old, rasterio.open(copy) as new:
        assert new.profile == old.profile
        assert new.tags() == old.tags()
        assert new.descriptions == old.descriptions
        assert new.colormap(1) == old.colormap(1)
        assert new.overviews(1) == old.overviews(1) == [2, 4]
        assert np.array_equal(new.read(1, out_shape=(20, 30)), expected[::2, ::2])
    assert np.array_equal(pixels_of(case.files[0]), before)


def test_a_cloud_optimized_one(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster, tiled=True, blockxsize=16, blockysize=16)
    path = tmp_path / "cog.tif"
    rasterio.shutil.copy(case.files[0], path, driver="COG", BLOCKSIZE=128)
    case = Case(tmp_path, case.image, [path], RASTER)
    (copy,) = case.apply(verdict(case, "class", "tree", "car", AREA))
    expected = pixels_of(path)
    expected[2:6, 3:9] = 1
    assert np.array_equal(pixels_of(copy), expected)


def test_spurious_pixels_become_null(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster)
    (copy,) = case.apply(verdict(case, "spurious", "tree", None, AREA))
    assert (pixels_of(copy)[2:6, 3:9] == NULL).all()
    mapped = {"map": {"10": "tree", "20": "car"}, "nodata": None}
    case = case_of(tmp_path, write_raster, "b.tif", (10, 20, 0), np.uint16, mapped, nodata=0)
    (copy,) = case.apply(verdict(case, "spurious", "tree", None, AREA))
    assert (pixels_of(copy)[2:6, 3:9] == 0).all()


def test_mapped_values_and_a_png(tmp_path, write_raster):
    mapped = {"map": {"10": "tree", "20": "car", "0": "null"}}
    case = case_of(tmp_path, write_raster, "a.png", (10, 20, 0), options=mapped, driver="PNG", transform=None, crs=None)
    case.image.unlink()
    write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8), transform=None, crs=None)
    (copy,) = case.apply(verdict(case, "class", "tree", "car", AREA))
    assert (pixels_of(copy)[2:6, 3:9] == 20).all()
    assert sorted(path.name for path in copy.parent.iterdir() if not path.name.endswith(".xml")) == ["a.png"]


def test_colours(tmp_path, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    pixels = np.zeros((3, 40, 60), dtype=np.uint8)
    pixels[1, 2:6, 3:9] = 255
    path = write_raster("a.tif", pixels, photometric="rgb")
    case = Case(tmp_path, image, [path], {**RASTER, "encoding": "rgb"})
    (copy,) = case.apply(verdict(case, "class", "tree", "car", AREA))
    with rasterio.open(copy) as file:
        assert (file.read()[:, 2:6, 3:9] == np.array([255, 0, 0])[:, None, None]).all()
        assert file.read()[:, 10:].max() == 0
    table = {0: (0, 0, 0, 255), 3: (0, 255, 0, 255), 4: (255, 0, 0, 255)}
    case = case_of(tmp_path, write_raster, "p.tif", (3, 4, 0), options={"encoding": "rgb"}, colormap=table)
    (copy,) = case.apply(verdict(case, "class", "tree", "car", AREA))
    assert (pixels_of(copy)[2:6, 3:9] == 4).all()


def test_labels_of_a_larger_image(tmp_path, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    pixels = np.full((50, 70), NULL, dtype=np.uint8)
    pixels[12:16, 8:14] = 0
    path = write_raster("a.tif", pixels, transform=GRID.transform_at(-10, -5))
    case = Case(tmp_path, image, [path], RASTER)
    (copy,) = case.apply(verdict(case, "class", "tree", "car", AREA))
    assert (pixels_of(copy)[12:16, 8:14] == 1).all()
    assert (pixels_of(copy) == 1).sum() == 24


def test_what_cannot_be_done_exactly_is_refused(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster)
    with pytest.raises(DataError, match="an outline in a label raster cannot be redrawn"):
        case.apply(verdict(case, "outline", "tree", None, AREA))
    changed = verdict(case, "class", "tree", "car", AREA)
    with rasterio.open(case.files[0], "r+") as file:
        pixels = file.read(1)
        pixels[3, 4] = NULL
        file.write(pixels, 1)
    with pytest.raises(DataError, match="the labels there have changed since the review"):
        case.apply(changed)
    mapped = {"map": {"10": "tree", "20": "null"}}
    case = case_of(tmp_path, write_raster, "b.tif", (10, 20, 20), options=mapped)
    with pytest.raises(DataError, match='`map` in `labels` has no value for the class "car"'):
        case.apply(verdict(case, "class", "tree", "car", AREA))
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    coarse = write_raster(
        "c.tif", np.zeros((20, 30), dtype=np.uint8), transform=GRID.transform @ GRID.transform.scale(2)
    )
    case = Case(tmp_path, image, [coarse], {**RASTER, "resample": "nearest"})
    with pytest.raises(DataError, match="is not on the pixel grid of the scene"):
        case.apply(verdict(case, "class", "tree", "car", AREA))


def test_what_is_done_already(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster)
    verdicts = [verdict(case, "class", "tree", "car", AREA), verdict(case, "missing", None, "tree", NEW)]
    case.apply(*verdicts, in_place=True)
    assert (pixels_of(tmp_path / "backup" / "a.tif")[2:6, 3:9] == 0).all()
    made = plan(verdicts, {"a": case.scene}, task=case.task, classes=CLASSES, null_id=NULL)
    assert (len(made.already), made.files) == (2, {})
