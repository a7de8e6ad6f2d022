"""Prediction in an environment of rvbuild-runtime, without torch: all tasks, and the same files as with torch."""

from __future__ import annotations

import json
import subprocess
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import rasterio
import tomli
import torch
from packaging.requirements import Requirement

from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Silent
from rvbuild.stages.bundle import write as bundle
from rvbuild.stages.bundle.predict import open_bundle
from tests.stages.sample_bundles import LOG, PORTABLE, pack, predict_images
from tests.stages.sample_scenes import CLASSES, NULL, empty, image_array, predict_settings, write_model, write_raster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = tomli.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]

MOST_MB = 268
"""Of all files but bytecode. That of all modules, which pip adds, takes 31 MB; all of it should stay below 300."""


def distributions(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """Return the distributions that requirements name here, and all that these need."""
    found: dict[str, metadata.Distribution] = {}
    pending = [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[requirement.name] = distribution = metadata.distribution(requirement.name)
        pending += map(Requirement, distribution.requires or ())
    return found


def sizes(distribution: metadata.Distribution) -> int:
    """Return the size of the files of a distribution without bytecode, in bytes."""
    files = [Path(str(file.locate())) for file in distribution.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds rvbuild and what rvbuild-runtime needs, and nothing else."""
    folder = tmp_path_factory.mktemp("runtime")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "rvbuild").symlink_to(ROOT / "rvbuild")
    for distribution in distributions(RUNTIME["dependencies"]).values():
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder / "bin" / "python"


BOXES = {"boxes": "geojson", "score_thresh": 0.3, "merge_thresh": 0.5}
TASKS: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "semantic_segmentation": ("unet", 16, {"width": 4, "depth": 2}, {"scores": "float32", "rgb": True}),
    "chip_classification": (
        "cnn",
        16,
        {"width": 4, "depth": 2},
        {"cell_px": 16, "cells": "geojson", "scores": "float32"},
    ),
    "object_detection": ("retinanet_resnet18_fpn", 32, {"fpn_channels": 8}, {"stride_px": 16, **BOXES}),
}

SCENE = image_array(100, 120)


def make_bundle(folder: Path, task: str) -> Path:
    """Write a bundle of a network with random weights that does not say the same everywhere."""
    name, side, args, predict = TASKS[task]
    torch.manual_seed(0)
    model: Any = models.build(task, name, bands=3, outputs=2, args=args).eval()
    with torch.no_grad():
        if task == "object_detection":
            last = model.head.classification_head.cls_logits
            last.weight.copy_(torch.randn_like(last.weight) / last.weight[0].numel() ** 0.5)
            last.bias.zero_()
        else:
            model.head.weight *= 2000
            chips = SCENE[:, : 6 * side, : 7 * side].reshape(3, 6, side, 7, side).transpose(1, 3, 0, 2, 4)
            values = model(torch.from_numpy(chips.reshape(-1, 3, side, side) / np.float32(255)))
            model.head.bias -= values.mean(dim=(0, 2, 3) if values.dim() == 4 else 0)
    classes: Any = [{"id": item["id"], "name": item["name"]} for item in CLASSES]
    normalize: Any = {"kind": "scale", "max": 255}
    info = ModelInfo(task, name, args, 3, "uint8", ["car", "tree"], classes, NULL, side, normalize)
    save_model(folder, model.state_dict(), info)
    (folder / "stats.json").write_text('{"bands": [], "dtype": "uint8"}\n')
    (folder / "log.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in LOG))
    settings: Any = {**predict_settings(side, **predict), "task": task, "onnx": PORTABLE}
    inputs = {
        "model": [folder / "model.safetensors", folder / "model.json"],
        "stats": [folder / "stats.json"],
        "log": [folder / "log.jsonl"],
    }
    bundle.run(inputs, settings, empty(folder / "packed"), Silent())
    return folder / "packed" / "bundle.zip"


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-m", "rvbuild", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("task", TASKS)
def test_a_bundle_predicts_without_torch(task: str, tmp_path: Path, environment: Path) -> None:
    path = make_bundle(tmp_path, task)
    scene = write_raster(tmp_path / "scene.tif", SCENE)
    predict_images(path, [scene], tmp_path / "torch")
    done = run(environment, "predict", str(path), str(scene), "-o", str(tmp_path / "onnx"))
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = tmp_path / "torch/scene", tmp_path / "onnx/scene"
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
    if (one / "labels.tif").is_file():
        with rasterio.open(one / "labels.tif") as first, rasterio.open(other / "labels.tif") as second:
            labels, again = first.read(1), second.read(1)
        assert len(np.unique(labels)) == 2
        assert np.mean(labels == again) >= 0.9999
    for name in ("cells.json", "detections.json"):
        if (one / name).is_file():
            assert_close(json.loads((one / name).read_text()), json.loads((other / name).read_text()))
    (made,) = json.loads((tmp_path / "onnx/manifest.json").read_text())["predictions"]
    assert made["engine"] == "onnxruntime" and "torch" not in made["versions"]
    verified = run(environment, "bundle", "--verify", str(path))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "torch is left out: it is not installed" in verified.stdout
    assert "the self-test passes with onnxruntime" in verified.stdout


def test_the_environment_is_small_and_lacks_what_only_building_needs(environment: Path) -> None:
    absent = ["torch", "torchvision", "onnx", "fiona", "PIL", "fsspec", "jinja2", "doit", "rich", "pydantic", "tomli"]
    check = f"from importlib.util import find_spec; print([name for name in {absent} if find_spec(name)])"
    done = subprocess.run([environment, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    own = sum(p.stat().st_size for p in (ROOT / "rvbuild").rglob("*") if p.is_file() and p.suffix != ".pyc")
    total = own + sum(map(sizes, distributions(RUNTIME["dependencies"]).values()))
    assert 100 < total / 1e6 < MOST_MB


def test_vectors_of_ogr_say_what_they_need(tmp_path: Path, environment: Path) -> None:
    path = pack(tmp_path, write_model(tmp_path / "model"), onnx=True, vectors=[GEOPACKAGE])
    scene = write_raster(tmp_path / "scene.tif", SCENE)
    done = run(environment, "predict", str(path), str(scene), "-o", str(tmp_path / "out"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "writes .gpkg files, which needs the package fiona: pip install 'rvbuild-runtime[vectors]'" in done.stderr
    assert not (tmp_path / "out").exists()


GEOPACKAGE = {"class": "car", "format": "gpkg", "min_area_units": 1.0, "simplify_px": 0.0, "denoise_px": 2}


def assert_close(one: Any, other: Any) -> None:
    """Require equal data, but for the last digits of numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_close(first, second)
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=2e-3)
    else:
        assert one == other


@pytest.mark.parametrize("command", ["build", "predict", "status"])
def test_projects_say_that_they_need_torch(command: str, tmp_path: Path, environment: Path) -> None:
    done = run(environment, command, str(tmp_path / "p.toml"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{command}: projects need torch, which is not installed; rvbuild-runtime only predicts" in done.stderr


def test_the_library_and_repositories_work_without_torch(tmp_path: Path, environment: Path) -> None:
    path = make_bundle(tmp_path, "chip_classification")
    scene = write_raster(tmp_path / "scene.tif", SCENE)
    script = (
        "import sys, rvbuild\n"
        "rvbuild.load_model(sys.argv[1]).predict([sys.argv[2]], out=sys.argv[3])\n"
        "try:\n"
        "    rvbuild.open('p.toml')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    words = [str(path), str(scene), str(tmp_path / "out")]
    done = subprocess.run([environment, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/scene/cells.json").is_file()
    assert "rvbuild.open needs pydantic, which is not installed; rvbuild-runtime only predicts" in done.stdout
    done = run(environment, "bundle", "--hf", str(tmp_path / "hub"), str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    for options in ((), ("-n",), ("--json",)):
        words = [str(tmp_path / "hub"), str(scene), "-o", str(tmp_path / "predictions"), *options]
        done = run(environment, "predict", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["summary"]["fresh"] == 1


def test_boxes_have_a_type_that_geodeep_and_deepness_read(tmp_path: Path) -> None:
    """Only the types YOLO_v8 and YOLO_v9 are (4 + K, A) in GeoDeep; Deepness has the latter."""
    folder = tmp_path / "opened"
    folder.mkdir()
    open_bundle(make_bundle(tmp_path, "object_detection"), folder)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["model_type"]) == "Detector" and json.loads(metadata["det_type"]) == "YOLO_v9"
    (output,) = session.run(None, {"images": SCENE[None, :, :32, :32] / np.float32(255)})
    assert output.shape[:2] == (1, 4 + len(json.loads(metadata["class_names"])))
    scores = output[0, 4:].max(axis=0)
    assert scores.max() >= float(metadata["det_conf"]) and np.all((scores >= 0) & (scores <= 1))
