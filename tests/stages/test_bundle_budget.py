"""Bundles that ask for too much are refused before anything is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvbuild.errors import DataError
from rvbuild.learn.model_files import read_info, write_info
from rvbuild.stages.bundle import budget as bundle_budget
from tests.stages.sample_bundles import contents, pack, predict_images, rewrite, settings
from tests.stages.sample_scenes import image_array, write_model, write_raster

pytestmark = pytest.mark.usefixtures("one_thread")
GIGA = 10**9


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "new.tif", image_array(64, 64, seed=5))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give the machine so many bytes."""
    return lambda count: monkeypatch.setattr(bundle_budget, "memory_bytes", lambda: count)


def asking(packed: Path, *, chip_px: int = 16, **predict: Any) -> Path:
    """Return the bundle with other settings, in all places that say them."""
    members = contents(packed)
    content = settings(**predict)
    content["chip_px"] = chip_px
    model = json.loads(members["model.json"])
    model["chip_px"] = chip_px
    return rewrite(
        packed, {**members, "project.json": json.dumps(content).encode(), "model.json": json.dumps(model).encode()}
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"chip_px": 1 << 16}, r"chip_px = 65536, predict\.batch_size = 4: .* needs at least 5\d\d\.\d GB of memory"),
        ({"chip_px": 1 << 12, "stride_px": 1, "batch_size": 1 << 16}, "chip_px = 4096, predict.batch_size = 65536"),
    ],
)
def test_more_memory_than_there_is(
    packed: Path, image: Path, tmp_path: Path, asked: dict, message: str, memory: Callable[[int], None]
) -> None:
    memory(8 * GIGA)
    with pytest.raises(DataError, match=message + ".* 8.0 GB is available"):
        predict_images(asking(packed, **asked), [image], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_system_is_asked_if_nobody_says_how_much_there_is(packed: Path, image: Path, tmp_path: Path) -> None:
    bundle = asking(packed, chip_px=1 << 16, batch_size=1 << 16, stride_px=1)
    with pytest.raises(DataError, match="chip_px = 65536"):
        predict_images(bundle, [image], tmp_path / "out")


@pytest.mark.slow
def test_too_many_windows(packed: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "wide.tif", image_array(3200, 3200, bands=3))
    with pytest.raises(DataError, match=r"predict\.stride_px = 1: .* 10,240,000 windows; expected at most 4,000,000"):
        predict_images(asking(packed, stride_px=1), [image], tmp_path / "out")


def test_sums_of_windows_that_overlap_over_a_wide_image(
    packed: Path, tmp_path: Path, memory: Callable[[int], None]
) -> None:
    memory(2_000_000)
    image = write_raster(tmp_path / "wide.tif", image_array(64, 4000, bands=3))
    bundle = asking(packed, chip_px=64, stride_px=8, batch_size=1)
    with pytest.raises(DataError, match=r"stride_px = 8: windows that overlap this much need 3 MB"):
        predict_images(bundle, [image], tmp_path / "out")


def test_patches_of_any_size_are_merged_away(packed: Path, image: Path, tmp_path: Path) -> None:
    vectors = [{"class": "car", "format": "geojson", "min_area_units": 0.0, "simplify_px": 0.0, "denoise_px": 1 << 30}]
    predict_images(asking(packed, vectors=vectors), [image], tmp_path / "out")
    assert (tmp_path / "out/new/car.geojson").exists()


@pytest.mark.parametrize("name", ["a:b", "![x](y)", "größe 'x'", "a:b::c.tif", "<b>", "x\n"])
def test_a_class_may_be_called_whatever_a_project_allows(tmp_path: Path, image: Path, name: str) -> None:
    from rvbuild.project.toml.names import RESERVED_CLASSES, name_problem

    model = write_model(tmp_path / "model")
    info = read_info(model[1])
    info.classes[0]["name"] = info.outputs[0] = name
    write_info(model[1], info)
    packed = pack(tmp_path, model)
    members = contents(packed)
    content = json.loads(members["project.json"])
    content["classes"][0]["name"] = name
    vector = {"class": name, "format": "geojson", "min_area_units": 0.0, "simplify_px": 0.0, "denoise_px": 0}
    content["predict"]["vectors"] = [vector]
    bundle = rewrite(packed, {**members, "project.json": json.dumps(content).encode()})
    if name_problem(name, RESERVED_CLASSES) is not None:
        with pytest.raises(DataError, match="name: expected a name without"):
            predict_images(bundle, [image], tmp_path / "out")
        return
    for _ in range(2):  # the second replaces the first, which is recognised
        predict_images(bundle, [image], tmp_path / "out")
    assert len(list((tmp_path / "out/new").glob("*.geojson"))) == 1
