from __future__ import annotations

import shutil
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.windows import Window, sliding
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.model_files import read_info, write_info
from rvbuild.learn.normalize import Normalizer
from rvbuild.process.memory import Growth
from rvbuild.progress import Silent
from rvbuild.stages import infer
from rvbuild.stages.network import Network
from rvbuild.stages.window_rows import WindowRows
from rvbuild.tasks.segmentation import task as task
from tests.stages.sample_scenes import (
    digests,
    empty,
    image_array,
    predict_scene,
    predict_settings,
    write_aoi,
    write_model,
    write_raster,
)

HEIGHT, WIDTH = 45, 53


pytestmark = pytest.mark.usefixtures("one_thread")


class Counter(Silent):
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, step: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, n: int = 1) -> None:
        self.done += n


class Scene:
    """A scene's image, a model for it, and the stage on them."""

    def __init__(self, folder: Path, image: np.ndarray, model: list[Path] | None = None, **raster: Any) -> None:
        self.folder, self.image = folder, image
        self.path = write_raster(folder / "image.tif", image, **raster)
        self.model = model or write_model(folder / "model", bands=len(image), dtype=image.dtype.name)
        self.aoi: list[Path] = []
        self.runs = 0

    def predict(self, progress: Silent | None = None, chip_px: int = 16, **settings: Any) -> Path:
        self.runs += 1
        outputs = empty(self.folder / f"run{self.runs}")
        inputs = {"image": [self.path], "aoi": self.aoi, "model": self.model}
        return predict_scene(inputs, predict_settings(chip_px, **settings), outputs, progress)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, image_array(HEIGHT, WIDTH))


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        pixels: np.ndarray = file.read()
        return pixels


def labels(folder: Path) -> np.ndarray:
    return read(folder / "labels.tif")[0]


def by_hand(scene: Scene, size: int, stride: int, valid: np.ndarray | None = None) -> np.ndarray:
    """Return the mean probabilities (K, H, W) in float64, window by window."""
    model, info = load_model(*scene.model, "cpu")
    normalizer = Normalizer(info)
    bands, height, width = scene.image.shape
    known = np.ones((bands, height, width), dtype=bool) if valid is None else valid
    image = np.pad(scene.image, ((0, 0), (0, size), (0, size)))
    known = np.pad(known, ((0, 0), (0, size), (0, size)))
    sums, counts = np.zeros((2, height + size, width + size)), np.zeros((height + size, width + size))
    for row, col, _, _ in sliding(height, width, size, stride):
        here = np.s_[:, row : row + size, col : col + size]
        if known[here].any():
            sums[here] += task.forward(model, normalizer(image[here][None], known[here][None]))[0]
            counts[row : row + size, col : col + size] += 1
    return sums[:, :height, :width] / np.maximum(counts[:height, :width], 1)


def assert_agree(predicted: np.ndarray, scores: np.ndarray) -> None:
    """Labels are those of the highest score; where scores are nearly equal either will do."""
    differs = predicted != scores.argmax(axis=0)
    assert (np.abs(scores[0] - scores[1])[differs] < 1e-5).all()
    assert differs.mean() < 0.01


@pytest.mark.parametrize("stride", [16, 8, 7])
def test_equals_predicting_by_hand(scene: Scene, stride: int) -> None:
    progress = Counter()
    outputs = scene.predict(progress, stride_px=stride, scores="float32")

    scores = by_hand(scene, 16, stride)
    np.testing.assert_allclose(read(outputs / "scores.tif"), scores, atol=1e-5)
    assert_agree(labels(outputs), scores)
    assert set(np.unique(labels(outputs))) == {0, 1}
    assert progress.total == progress.done == len(sliding(HEIGHT, WIDTH, 16, stride))


@pytest.mark.slow
@pytest.mark.parametrize("blend", ["none", "mean", "cosine"])
def test_batches_do_not_matter(scene: Scene, blend: str) -> None:
    single, three, many = (
        read(scene.predict(batch_size=n, blend=blend, scores="float32") / "scores.tif") for n in (1, 3, 100)
    )
    np.testing.assert_allclose(single, three, atol=1e-5)
    np.testing.assert_allclose(single, many, atol=1e-5)


@pytest.mark.slow
def test_reading_threads_do_not_change_a_bit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    single = scene.predict(scores="float32")
    monkeypatch.setattr(infer, "thread_count", lambda: 8)
    assert digests(scene.predict(scores="float32")) == digests(single)


def test_on_one_core_the_predictions_of_one_batch_are_in_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the batch before it as well, which would be merged on the same core."""
    most, merge = {}, infer._merge
    for cores in (1, 2):
        alive: list[weakref.ref[np.ndarray]] = []
        counts: list[int] = []

        class Watched(Network):
            def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
                predictions = super().__call__(images, valid)
                alive.append(weakref.ref(predictions))  # noqa: B023
                counts.append(sum(known() is not None for known in alive))  # noqa: B023
                return predictions

        def slowly(*args: Any) -> None:
            time.sleep(0.05)
            merge(*args)

        with monkeypatch.context() as patch:
            patch.setattr("rvbuild.stages.network.Network", Watched)
            patch.setattr(infer, "cores", lambda cores=cores: cores)
            patch.setattr(infer, "_merge", slowly)
            most[cores] = digests(scene.predict(batch_size=4, scores="float32")), max(counts)
    assert most[1][1] == 1 and most[2][1] == 2
    assert most[1][0] == most[2][0]


def test_memory_is_looked_at_after_each_group_of_rows(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(Growth, "limit", lambda self: calls.append(1))
    scene.predict(batch_size=1)
    rows = WindowRows.of(WIDTH, (16, 8), 1)
    assert len(calls) == len({rows.group(window) for window in sliding(HEIGHT, WIDTH, 16, 8)}) > 1


def test_bands_share_a_mask_that_they_have_in_common() -> None:
    known = np.array([[True, False], [True, True]])
    apart = np.stack([known, ~known])
    for valid, shared in ((np.stack([known, known]), True), (apart, False)):
        source: Any = SimpleNamespace(read_data=lambda window, valid=valid: (np.zeros((2, 2, 2), np.uint8), valid))
        read = infer._read(source, Window(0, 0, 2, 2), 2)
        assert read.valid is not None and (read.valid.strides[0] == 0) == shared
        np.testing.assert_array_equal(read.valid, valid)
        np.testing.assert_array_equal(read.seen, valid.any(axis=0))


@pytest.mark.slow
def test_runs_are_equal_byte_for_byte_wherever_they_are(scene: Scene, tmp_path: Path) -> None:
    vector = {"class": "car", "min_area_units": 0.0, "simplify_px": 0.5, "denoise_px": 0}
    everything: dict[str, Any] = {
        "scores": "uint8",
        "rgb": True,
        "vectors": [{**vector, "format": "geojson"}],
        "blend": "cosine",
    }
    first = scene.predict(**everything)
    names = {"car.geojson", "car.qml", "labels.qml", "labels.tif", "raw_labels.tif", "rgb.tif"}
    assert set(digests(first)) == names | {"scores.qml", "scores.tif"}
    other_folder = empty(tmp_path / "else" / "where")
    moved = Scene(other_folder, scene.image, [Path(shutil.copy(path, other_folder)) for path in scene.model])
    assert digests(moved.predict(**everything)) == digests(first)


def test_the_grid_of_the_image_is_kept(scene: Scene) -> None:
    with rasterio.open(scene.path) as image, rasterio.open(scene.predict() / "labels.tif") as prediction:
        assert (prediction.shape, prediction.transform, prediction.crs) == (image.shape, image.transform, image.crs)


def test_an_image_without_georeference(tmp_path: Path) -> None:
    scene = Scene(tmp_path, image_array(20, 30), crs=None)
    assert_agree(labels(scene.predict(stride_px=8)), by_hand(scene, 16, 8))


@pytest.mark.parametrize(("height", "width"), [(10, 12), (1, 40), (16, 16), (40, 3)])
def test_a_scene_smaller_than_a_window(tmp_path: Path, height: int, width: int) -> None:
    scene = Scene(tmp_path, image_array(height, width))
    predicted = labels(scene.predict(stride_px=16))
    assert predicted.shape == (height, width)
    assert_agree(predicted, by_hand(scene, 16, 16))


@pytest.mark.slow
@pytest.mark.parametrize("blend", ["none", "mean", "cosine"])
def test_every_pixel_of_the_area_is_predicted(scene: Scene, blend: str) -> None:
    """Windows that lie in the area only in part count too."""
    boxes = [(3, 5, 30, 33), (35, 40, 38, 43)]
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for row, col, row_stop, col_stop in boxes:
        inside[row:row_stop, col:col_stop] = True
    whole = scene.predict(blend=blend, scores="float32", stride_px=12)
    scene.aoi = [write_aoi(scene.folder / "aoi.geojson", *boxes)]
    part = scene.predict(blend=blend, scores="float32", stride_px=12)

    assert (labels(part) == 255).tolist() == (~inside).tolist()
    scores = read(part / "scores.tif")
    assert np.isnan(scores[:, ~inside]).all()
    np.testing.assert_allclose(scores[:, inside], read(whole / "scores.tif")[:, inside], atol=1e-5)


def test_windows_beside_the_area_are_not_predicted(scene: Scene) -> None:
    progress = Counter()
    scene.aoi = [write_aoi(scene.folder / "aoi.geojson", (16, 16, 32, 32))]
    scene.predict(progress, stride_px=16)
    assert progress.total == progress.done == 1


def test_nodata_is_not_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_array(HEIGHT, WIDTH)
    image[:, :20, :36] = 0
    image[1, 30:34, 30:34] = 0  # one band of three
    scene = Scene(tmp_path, image, nodata=0)
    images = 0

    def count(model: torch.nn.Module, batch: torch.Tensor) -> np.ndarray:
        nonlocal images
        images += len(batch)
        return task_forward(model, batch)

    task_forward = task.forward
    monkeypatch.setattr(task, "forward", count)
    progress = Counter()
    outputs = scene.predict(progress, stride_px=16, scores="float32")

    assert images == 12 - 2  # two windows hold nothing
    assert progress.done == progress.total == 12
    nothing = (image == 0).all(axis=0)
    assert ((labels(outputs) == 255) == nothing).all()
    monkeypatch.undo()
    scores = by_hand(scene, 16, 16, image != 0)
    np.testing.assert_allclose(read(outputs / "scores.tif")[:, ~nothing], scores[:, ~nothing], atol=1e-5)


def test_a_scene_of_nothing_but_nodata(tmp_path: Path) -> None:
    scene = Scene(tmp_path, np.zeros((3, 20, 20), dtype=np.uint8), nodata=0)
    assert (labels(scene.predict()) == 255).all()


def test_other_types_of_imagery(tmp_path: Path) -> None:
    scene = Scene(tmp_path, image_array(HEIGHT, WIDTH, bands=1, dtype="uint16"))
    outputs = scene.predict(scores="float32")
    np.testing.assert_allclose(read(outputs / "scores.tif"), by_hand(scene, 16, 8), atol=1e-5)


def test_channels_are_chosen_and_ordered(scene: Scene, tmp_path: Path) -> None:
    folder = empty(tmp_path / "four")
    shuffled = Scene(folder, np.concatenate([scene.image[[1, 2]], scene.image[[1, 0]]]), scene.model)
    outputs = empty(folder / "out")
    settings = {**predict_settings(), "channels": [3, 0, 1]}
    predict_scene({"image": [shuffled.path], "aoi": [], "model": scene.model}, settings, outputs)
    assert digests(outputs) == digests(scene.predict())


def test_a_mosaic_equals_one_image(scene: Scene) -> None:
    with rasterio.open(scene.path) as file:
        profile, transform = file.profile, file.transform
    pieces = []
    for number, (row, col) in enumerate([(0, 0), (0, 30), (25, 0), (25, 30)]):
        piece = scene.image[:, row : row + (25 if row == 0 else 20), col : col + (30 if col == 0 else 23)]
        here = rasterio.Affine(0.5, 0, transform.c + 0.5 * col, 0, -0.5, transform.f - 0.5 * row)
        path = scene.folder / f"piece{number}.tif"
        shape = {"height": piece.shape[1], "width": piece.shape[2], "transform": here}
        with rasterio.open(path, "w", **{**profile, **shape}) as out:
            out.write(piece)
        pieces.append(path)
    outputs = empty(scene.folder / "mosaic")
    predict_scene({"image": pieces, "aoi": [], "model": scene.model}, predict_settings(), outputs)
    assert digests(outputs) == digests(scene.predict())


@pytest.mark.parametrize(
    ("bands", "dtype", "message"),
    [(5, "uint8", "found 5 of type uint8"), (3, "uint16", "found 3 of type uint16"), (1, "float32", "found 1 of type")],
)
def test_an_image_unlike_the_training_is_refused(tmp_path: Path, bands: int, dtype: str, message: str) -> None:
    model = write_model(tmp_path / "model")
    scene = Scene(tmp_path, image_array(20, 20, bands=bands, dtype=dtype), model)
    expected = (
        rf"image\.tif: expected 3 bands of type uint8, as in the training of the model; {message}.* with every band"
    )
    with pytest.raises(DataError, match=expected):
        scene.predict()


def test_a_damaged_model_is_an_error(scene: Scene) -> None:
    weights = scene.model[0]
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        scene.predict()


def test_nothing_but_results_is_left(scene: Scene) -> None:
    names = {"labels.qml", "labels.tif", "raw_labels.tif", "scores.qml", "scores.tif"}
    assert set(digests(scene.predict(scores="uint8"))) == names


@pytest.mark.parametrize("trained", [None, {"model": "unet", "model_args": {}}, {"model": "os:kill", "model_args": {}}])
def test_a_description_never_chooses_what_is_called(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, trained: dict[str, Any] | None
) -> None:
    """A store that others write to may hold a result of train that names anything as the model."""
    called = []
    monkeypatch.setattr("os.kill", lambda *arguments: called.append(arguments))
    _, description = scene.model
    inputs = {"image": [scene.path], "model": scene.model}
    forged = replace(read_info(description), model="os:kill", model_args={})
    write_info(description, forged)
    settings = {**predict_settings(), **({"trained": trained} if trained else {})}
    own = trained is not None and trained["model"] == "os:kill"
    message = (
        "os is a module of Python itself" if own else r'the model was created by "os:kill", but the project names none'
    )
    with pytest.raises(ModelError, match=message):
        infer.run(inputs, settings, empty(scene.folder / "forged"), Silent())
    assert not called


def test_a_factory_gets_the_arguments_that_the_project_gives(scene: Scene) -> None:
    _, description = scene.model
    inputs = {"image": [scene.path], "model": scene.model}
    write_info(description, replace(read_info(description), model="torch.nn:Conv2d", model_args={"kernel_size": 9}))
    settings = {**predict_settings(), "trained": {"model": "torch.nn:Conv2d", "model_args": {"kernel_size": 3}}}
    with pytest.raises(ModelError, match=r"created the model with arguments other than train\.model_args"):
        infer.run(inputs, settings, empty(scene.folder / "forged"), Silent())


@pytest.mark.parametrize("tta", ["flips", "d4"])
def test_windows_are_predicted_in_several_orientations(scene: Scene, tta: str) -> None:
    plain = read(scene.predict(scores="float32", stride_px=16) / "scores.tif")
    outputs = scene.predict(scores="float32", stride_px=16, tta=tta)
    model, info = load_model(*scene.model, "cpu")
    normalizer, (bands, _, _) = Normalizer(info), scene.image.shape
    side = 16
    expected = np.zeros((2, side, side))
    for mirror in (False, True):
        for turns in range(4) if tta == "d4" else (0, 2):
            corner = scene.image[:, :side, :side]
            chip = np.rot90(corner[..., ::-1] if mirror else corner, turns, axes=(1, 2)).copy()
            known = np.ones((1, bands, side, side), dtype=bool)
            back = np.rot90(task.forward(model, normalizer(chip[None], known))[0], -turns, axes=(1, 2))
            expected += (back[..., ::-1] if mirror else back) / (8 if tta == "d4" else 4)
    scores = read(outputs / "scores.tif")
    np.testing.assert_allclose(scores[:, :side, :side], expected, atol=1e-5)
    assert np.abs(scores - plain).max() > 1e-3


def test_a_network_stays_loaded_for_the_next_scene_until_its_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    load = infer.load_predictor
    monkeypatch.setattr(infer, "load_predictor", lambda *args, **options: calls.append(args) or load(*args, **options))
    inputs, settings = {"model": write_model(tmp_path / "model")}, predict_settings()
    first = infer.load(inputs, settings)
    assert infer.load(inputs, settings) is first and len(calls) == 1
    monkeypatch.setenv("RVBUILD_CARD", "1")
    assert infer.load(inputs, settings) is not first and len(calls) == 2
    monkeypatch.delenv("RVBUILD_CARD")
    other = {"model": write_model(tmp_path / "other", seed=1)}
    assert infer.load(other, settings) is not infer.load(inputs, settings) and len(calls) == 4
    write_model(tmp_path / "model", seed=2)
    again = infer.load(inputs, settings)
    assert len(calls) == 5
    assert isinstance(first, Network) and isinstance(again, Network)
    assert not torch.equal(next(first.module.parameters()), next(again.module.parameters()))


def test_a_model_of_a_user_is_loaded_anew_for_each_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(infer, "load_predictor", lambda *args, **options: calls.append(args) or len(calls))
    files = write_model(tmp_path / "model")
    description = next(path for path in files if path.suffix == ".json")
    description.write_text(description.read_text().replace('"unet"', '"mine.models:make"'))
    assert [infer.load({"model": files}, predict_settings()) for _ in range(2)] == [1, 2]
