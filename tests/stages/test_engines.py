"""Exported networks in each engine: the same predictions for any number of threads and images, and no surprises."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.model_files import DESCRIPTION, read_info
from rvbuild.progress import Silent
from rvbuild.stages import export, infer, predictor
from rvbuild.stages.augmented import Augmented
from rvbuild.stages.engines import exported, exporting
from rvbuild.stages.engines.exported import ExportedNetwork, is_installed, load_exported
from rvbuild.stages.names import EXPORTED_ENGINES
from rvbuild.stages.network import Network
from rvbuild.tasks import get
from rvbuild.tasks.segmentation.merge import outputs_of
from tests.stages.sample_scenes import empty, predict_settings, write_raster
from tests.stages.test_without_torch import SCENE, TASKS, make_bundle

pytestmark = pytest.mark.slow

ENGINES = [
    pytest.param(engine, marks=pytest.mark.skipif(not is_installed(engine), reason=f"{engine} is not installed"))
    for engine in EXPORTED_ENGINES
]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the extracted bundle of each task."""
    folders = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        with zipfile.ZipFile(make_bundle(folder, task)) as archive:
            archive.extractall(folder / "bundle")
        folders[task] = folder / "bundle"
    return folders


def chips(task: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return chips of a scene, and which of their pixels are valid."""
    side = TASKS[task][1]
    places = [divmod(number * 7, 100 // side) for number in range(count)]
    images = [SCENE[:, r % 3 * side : r % 3 * side + side, c * side : c * side + side] for r, c in places]
    valid = np.random.default_rng(0).random((count, 3, side, side)) > 0.1
    return np.stack(images), valid


def opened(folder: Path, engine: Any, threads: int, monkeypatch: pytest.MonkeyPatch) -> ExportedNetwork:
    monkeypatch.setenv("RVBUILD_THREADS", str(threads))
    return load_exported(folder / "model.onnx", read_info(folder / DESCRIPTION), engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS)
def test_an_engine_predicts_as_torch_does(
    task: str, engine: Any, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, (images, valid) = bundles[task], chips(task, 5)
    network = opened(folder, engine, 2, monkeypatch)
    of_torch = predictor.load_predictor(folder / "model.safetensors", folder / "model.json", "cpu")
    for known in (None, valid):
        with of_torch.computing():
            expected = of_torch(images, known)
        given = network(images, known)
        if task == "object_detection":
            assert [len(chip.scores) for chip in given] == [len(chip.scores) for chip in expected]
            assert sum(len(chip.scores) for chip in given) > 5
        else:
            np.testing.assert_allclose(given, expected, atol=1e-4)
        portable = get(task).PORTABLE
        wrong, count = portable.misses(given, portable.expected(expected))
        assert not wrong and count


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS)
def test_an_engine_augments_as_torch_does(
    task: str, engine: Any, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, (images, valid) = bundles[task], chips(task, 3)
    given = Augmented(opened(folder, engine, 2, monkeypatch), "d4")(images, valid)
    of_torch = Augmented(predictor.load_predictor(folder / "model.safetensors", folder / "model.json", "cpu"), "d4")
    with of_torch.computing():
        expected = of_torch(images, valid)
    portable = get(task).PORTABLE
    wrong, count = portable.misses(given, portable.expected(expected))
    assert not wrong and count


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS)
def test_neither_threads_nor_batches_change_a_bit(
    task: str, engine: Any, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, valid = chips(task, 5)
    alone = opened(bundles[task], engine, 1, monkeypatch)
    expected = np.concatenate([alone.output(images[i : i + 1], valid[i : i + 1]) for i in range(5)])
    for threads in (1, 3):
        network = opened(bundles[task], engine, threads, monkeypatch)
        assert network.output(images, valid).tobytes() == expected.tobytes()


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_stay_as_they_are_when_the_engine_computes_the_next(
    engine: Any, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, valid = chips("semantic_segmentation", 5)
    network = opened(bundles["semantic_segmentation"], engine, 1, monkeypatch)
    first, reduced = network(images[:1], valid[:1]), network.reduced(outputs_of)(images[:1], valid[:1])
    before = first[0].copy()
    assert (reduced[0] == before.argmax(axis=0)).all() and len(np.unique(reduced[0])) == 2
    after = network(images[4:], valid[4:])
    assert (first[0] == before).all() and (after[0] != before).any()
    assert (reduced[0] == before.argmax(axis=0)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_cannot_open_is_told_in_one_line(engine: Any, bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = bundles["semantic_segmentation"]
    info = read_info(folder / DESCRIPTION)
    broken = tmp_path / "model.onnx"
    broken.write_bytes((folder / "model.onnx").read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"^B: {engine} cannot open it: .*$"):
        load_exported(broken, info, engine, where="B")
    with pytest.raises(ModelError, match=r'^predict.device: "cuda:0" was requested, but '):
        load_exported(folder / "model.onnx", info, engine, "cuda:0")
    with pytest.raises(DataError, match=r"expected the input \('images', 'float32', \[4, 16, 16\]\)"):
        load_exported(folder / "model.onnx", dataclasses.replace(info, bands=4), engine)


def test_openvino_leaves_wide_values_to_others(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundles["semantic_segmentation"]
    info = dataclasses.replace(read_info(folder / DESCRIPTION), dtype="int32")
    monkeypatch.setattr(exported, "is_installed", lambda engine: True)
    message = (
        "^B: OpenVINO computes in float32, which cannot hold the values of int32 imagery; "
        "use the engine onnxruntime or torch$"
    )
    with pytest.raises(ModelError, match=message):
        load_exported(folder / "model.onnx", info, "openvino", where="B")


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundles["semantic_segmentation"]
    sources = {
        True: {"openvino": "rvbuild[openvino]", "onnxruntime": "rvbuild[onnx]"},
        False: {"openvino": "rvbuild-runtime[openvino]", "onnxruntime": "rvbuild-runtime"},
    }
    for with_torch, of_engines in sources.items():
        monkeypatch.setattr(exported, "is_installed", lambda name, it=with_torch: it and name == "torch")
        for engine, source in of_engines.items():
            message = re.escape(f"B: needs the package {engine}: pip install '{source}'")
            with pytest.raises(ModelError, match=f"^{message}$"):
                load_exported(folder / "model.onnx", read_info(folder / DESCRIPTION), engine, where="B")  # type: ignore[arg-type]


def test_auto_is_the_first_engine_that_is_installed(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    info = read_info(bundles["semantic_segmentation"] / DESCRIPTION)
    monkeypatch.setattr(predictor, "has_torch", lambda: False)
    for installed, expected in (
        ({"onnxruntime", "openvino"}, "onnxruntime"),
        ({"openvino"}, "openvino"),
        (set(), "onnxruntime"),
    ):
        monkeypatch.setattr(predictor, "is_installed", installed.__contains__)
        assert predictor.exported_engine("auto", info) == expected
    monkeypatch.setattr(predictor, "has_torch", lambda: True)
    assert predictor.exported_engine("auto", info) is None
    assert predictor.exported_engine("openvino", info) == "openvino"


@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
def test_openvino_is_imported_without_what_reports_its_use(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from rvbuild.stages.engines.open_vino import import_openvino\n"
        "import_openvino().Core()\n"
        "assert not [n for n in sys.modules if 'telemetry' in n or n.startswith('openvino.tools')], sys.modules\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


SIGNALLED = """
import gc, signal, sys
from pathlib import Path
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.model_files import read_info
from rvbuild.stages.engines.exported import load_exported
network, model, engine = sys.argv[1:]
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(True))
first = load_exported(Path(network), read_info(Path(model)), engine)
second = load_exported(Path(network), read_info(Path(model)), engine)
del first
gc.collect()
del second
gc.collect()
signal.raise_signal(signal.SIGALRM)
assert handled
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_process_handles_signals_after_networks_are_gone(engine: Any, bundles: dict[str, Path]) -> None:
    """OpenVINO's plugin would leave a stack for signals that is not there any more: any signal was the end."""
    folder = bundles["semantic_segmentation"]
    words = [str(folder / "model.onnx"), str(folder / DESCRIPTION), engine]
    done = subprocess.run([sys.executable, "-c", SIGNALLED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


INFER = """
import importlib.abc, json, sys
from pathlib import Path

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx", "onnxscript"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
from rvbuild.progress import Silent
from rvbuild.stages import infer
bundle, image, out, settings = sys.argv[1:]
inputs = {"image": [Path(image)], "model": [Path(bundle, "model.json")], "network": [Path(bundle, "model.onnx")]}
infer.run(inputs, json.loads(settings), Path(out), Silent())
"""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS)
def test_the_stage_predicts_without_torch(task: str, engine: Any, bundles: dict[str, Path], tmp_path: Path) -> None:
    settings: Any = {**predict_settings(TASKS[task][1], **TASKS[task][3]), "task": task}
    image, files = write_raster(tmp_path / "scene.tif", SCENE), bundles[task]
    model = [files / "model.safetensors", files / "model.json"]
    infer.run({"image": [image], "model": model}, settings, empty(tmp_path / "torch"), Silent())
    words = [str(files), str(image), str(empty(tmp_path / "engine")), json.dumps({**settings, "engine": engine})]
    done = subprocess.run([sys.executable, "-c", INFER, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "torch").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "engine").iterdir())
    if "raw_labels.tif" in names:
        of_torch, of_engine = (
            rasterio.open(tmp_path / name / "raw_labels.tif").read(1) for name in ("torch", "engine")
        )
        assert len(np.unique(of_torch)) == 2 and np.mean(of_torch == of_engine) >= 0.9999


def test_an_export_that_predicts_something_else_is_refused(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bundles["semantic_segmentation"]
    inputs = {"model": [files / "model.safetensors", files / "model.json"], "stats": [files / "stats.json"]}
    run_export = functools.partial(export.run, inputs, {"engine": "onnxruntime"}, progress=Silent())
    run_export(outputs=empty(tmp_path / "one"))
    run_export(outputs=empty(tmp_path / "other"))
    content = (tmp_path / "one/model.onnx").read_bytes()
    assert content == (tmp_path / "other/model.onnx").read_bytes()
    output = ExportedNetwork.output
    monkeypatch.setattr(ExportedNetwork, "output", lambda *arguments: 1 - output(*arguments))
    message = (
        r'^predict.engine: the model "unet" predicts something else in onnxruntime than in torch: \d+ of \d+ classes '
        r'differ, and scores by up to .*\. Use engine = "torch", or choose another train.model$'
    )
    with pytest.raises(ModelError, match=message):
        run_export(outputs=empty(tmp_path / "third"))


@pytest.mark.parametrize("task", TASKS)
def test_an_engine_need_not_be_more_exact_than_torch(
    task: str, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bundles[task]
    model, info = load_model(files / "model.safetensors", files / DESCRIPTION, "cpu")
    images = exporting.sample(info, {"bands": [], "dtype": "uint8"})
    network = Network(model, info, "cpu")
    export = exporting.export_network(model, info, tmp_path)
    expected, path = get(task).PORTABLE.expected(network(images, None)), export.write(export.about)
    with torch.inference_mode():
        exact = export.network.double()(network.normalized(images, None).double()).numpy()
    export.network.float()
    monkeypatch.setattr(exporting, "LARGEST_DIFFERENCE", 1e-15)
    monkeypatch.setattr(ExportedNetwork, "output", lambda *arguments: exact)
    assert exporting.compared(network, export, path, images, expected, "onnxruntime") <= 1e-3
    monkeypatch.setattr(ExportedNetwork, "output", lambda *arguments: exact + 1e-5)
    with pytest.raises(ModelError, match="predicts something else in onnxruntime than in torch: 0 of"):
        exporting.compared(network, export, path, images, expected, "onnxruntime")
