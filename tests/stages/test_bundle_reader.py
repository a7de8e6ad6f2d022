from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from rvbuild.errors import DataError, ModelError
from rvbuild.stages.bundle import write as bundle
from rvbuild.stages.bundle import zip as bundle_zip
from rvbuild.stages.bundle.predict import open_bundle
from tests.stages.sample_bundles import (
    CODE,
    MEMBERS,
    contents,
    pack,
    predict_images,
    refuse,
    rewrite,
    settings,
    with_code,
)
from tests.stages.sample_scenes import (
    digests,
    empty,
    image_array,
    predict_scene,
    predict_settings,
    write_model,
    write_raster,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_opening_gives_the_settings_and_the_files(packed: Path, tmp_path: Path) -> None:
    into = empty(tmp_path / "into")
    assert open_bundle(packed, into) == settings()
    assert sorted(path.name for path in into.iterdir()) == sorted(set(MEMBERS) - {"manifest.json"})
    assert (into / "model.json").read_bytes() == (tmp_path / "model" / "model.json").read_bytes()


def test_no_such_file(tmp_path: Path) -> None:
    refuse(tmp_path / "none.zip", tmp_path / "into", "no such file")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "new.tif", image_array(40, 50, seed=5))


@pytest.mark.slow
def test_predictions_equal_those_of_the_stage(tmp_path: Path, image: Path) -> None:
    vectors = [
        {"class": name, "format": form, "min_area_units": 1.0, "simplify_px": 0.0, "denoise_px": 2}
        for name, form in (("car", "geojson"), ("tree", "gpkg"))
    ]
    model = write_model(tmp_path / "model")
    options: dict[str, Any] = {"scores": "uint8", "rgb": True, "vectors": vectors, "blend": "cosine"}
    staged = empty(tmp_path / "staged")
    predict_scene({"image": [image], "aoi": [], "model": model}, predict_settings(**options), staged)

    folders = predict_images(pack(tmp_path, model, **options), [image], tmp_path / "out")

    assert folders == [tmp_path / "out" / "new"]
    (staged / "raw_labels.tif").unlink()  # labels.tif says it all
    assert digests(folders[0]) == digests(staged)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert stat.S_IMODE(folders[0].stat().st_mode) == stat.S_IMODE(staged.stat().st_mode)
    # All of it is known as a result, which the next one replaces.
    predict_images(pack(empty(tmp_path / "once more"), model, **options), [image], tmp_path / "out")
    assert digests(folders[0]) == digests(staged)


def test_several_images(packed: Path, tmp_path: Path, image: Path) -> None:
    other = write_raster(empty(tmp_path / "elsewhere") / "other.tif", image_array(20, 20, seed=6))
    folders = predict_images(packed, [image, other], tmp_path / "out")
    assert [path.name for path in folders] == ["new", "other"]
    assert all(list(digests(path)) == ["labels.qml", "labels.tif"] for path in folders)


def test_an_earlier_result_is_replaced(packed: Path, tmp_path: Path, image: Path) -> None:
    (target,) = predict_images(packed, [image], tmp_path / "out")
    first = digests(target)
    (target / "labels.tif").write_bytes(b"old")
    (target / "car.geojson").write_bytes(b"old")
    (target / "tree.gpkg").write_bytes(b"old")
    predict_images(packed, [image], tmp_path / "out")
    assert digests(target) == first


def test_an_earlier_result_stays_if_prediction_fails(packed: Path, tmp_path: Path, image: Path) -> None:
    (target,) = predict_images(packed, [image], tmp_path / "out")
    first = digests(target)
    write_raster(image, image_array(40, 50, bands=5))
    with pytest.raises(DataError, match="expected 3 bands of type uint8"):
        predict_images(packed, [image], tmp_path / "out")
    assert digests(target) == first
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


@pytest.mark.slow
def test_an_earlier_result_stays_if_replacing_fails(
    packed: Path, tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target,) = predict_images(packed, [image], tmp_path / "out")
    first = digests(target)
    rename, calls = Path.rename, 0

    def fail_second(self: Path, other: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_second)
    with pytest.raises(OSError, match="no"):
        predict_images(packed, [image], tmp_path / "out")
    assert digests(target) == first


def test_what_is_no_result_is_never_replaced(packed: Path, tmp_path: Path, image: Path) -> None:
    mine = empty(tmp_path / "out" / "new") / "notes.txt"
    mine.write_text("precious")
    with pytest.raises(DataError, match=r"new: holds notes\.txt"):
        predict_images(packed, [image], tmp_path / "out")
    assert mine.read_text() == "precious"


def test_an_image_beside_its_result_is_never_replaced(packed: Path, tmp_path: Path) -> None:
    folder = empty(tmp_path / "out" / "scene")
    image = write_raster(folder / "scene.tif", image_array(20, 20))
    label = write_raster(empty(tmp_path / "out" / "labels") / "labels.tif", image_array(20, 20))
    for path in (image, label):
        before = path.read_bytes()
        with pytest.raises(DataError, match=rf"{path.name}: a result would overwrite it"):
            predict_images(packed, [path], tmp_path / "out")
        assert path.read_bytes() == before


def test_rasters_and_vectors_of_other_names_are_never_replaced(packed: Path, tmp_path: Path, image: Path) -> None:
    target = empty(tmp_path / "out" / "new")
    for name in ("dem.tif", "roads.gpkg"):
        (target / name).write_bytes(b"precious")
        with pytest.raises(DataError, match=name):
            predict_images(packed, [image], tmp_path / "out")
        (target / name).unlink()


def test_a_file_in_the_way(packed: Path, tmp_path: Path, image: Path) -> None:
    (empty(tmp_path / "out") / "new").write_text("x")
    with pytest.raises(DataError, match="already exists and is not a directory"):
        predict_images(packed, [image], tmp_path / "out")


def test_images_of_one_name(packed: Path, tmp_path: Path, image: Path) -> None:
    other = Path(shutil.copy(image, empty(tmp_path / "other") / "NEW.png"))
    with pytest.raises(DataError, match=r"new\.tif and .*NEW\.png: both results would be written to"):
        predict_images(packed, [image, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_does_not_exist(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tif: no such file; expected an image"):
        predict_images(packed, [tmp_path / "none.tif"], tmp_path / "out")


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint16")])
def test_an_image_unlike_the_training(packed: Path, tmp_path: Path, bands: int, dtype: str) -> None:
    image = write_raster(tmp_path / "odd.tif", image_array(20, 20, bands=bands, dtype=dtype))
    with pytest.raises(DataError, match=rf"odd\.tif: expected 3 bands of type uint8.*found {bands} of type {dtype}"):
        predict_images(packed, [image], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_device_can_be_chosen(packed: Path, tmp_path: Path, image: Path) -> None:
    with pytest.raises(ModelError, match="cuda:99"):
        predict_images(packed, [image], tmp_path / "out", device="cuda:99")
    assert predict_images(packed, [image], tmp_path / "out", device="cpu")


def test_code_runs_only_if_it_is_allowed(tmp_path: Path, image: Path) -> None:
    marker = tmp_path / "marker"
    code = CODE + f"\nopen({str(marker)!r}, 'w').close()\n"
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": code}))
    with pytest.raises(ModelError, match=r'"nets\.small:small" is made by Python code .* allow it with --allow-code'):
        predict_images(path, [image], tmp_path / "out")
    assert not marker.exists()
    (target,) = predict_images(path, [image], tmp_path / "out", allow_code=True)
    assert marker.exists()
    assert (target / "labels.tif").exists()


def test_an_installed_factory_is_code_too(tmp_path: Path, image: Path) -> None:
    """`os:system` is a factory that any Python has."""
    path = pack(tmp_path, with_code(tmp_path / "model", None, "os:system"))
    with pytest.raises(ModelError, match="is made by Python code"):
        predict_images(path, [image], tmp_path / "out")
    with pytest.raises(ModelError, match="os is a module of Python itself"):
        predict_images(path, [image], tmp_path / "out", allow_code=True)


def test_code_that_differs_from_what_would_run(tmp_path: Path) -> None:
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": CODE}))
    members = contents(path)
    harmless = {**members, "code/nets/small.py": b"def small(): ...\n"}
    refuse(rewrite(path, harmless), tmp_path / "into", r"code/nets/small\.py differs from the module")
    more = {**members, "code/more.py": b""}
    refuse(rewrite(path, more), tmp_path / "into2", "not the modules that model.json and project.json embed")
    del members["code/nets/small.py"]
    refuse(rewrite(path, members), tmp_path / "into3", "not the modules that model.json and project.json embed")


def test_the_members_are_known_in_one_place() -> None:
    assert sorted({*bundle.MEMBERS, bundle_zip.MANIFEST}) == MEMBERS
