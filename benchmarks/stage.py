"""Calls of a stage function with the settings that a project would give it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scenes import CLASSES, NULL_ID
from rvbuild.progress import Progress, Silent

TASK = "semantic_segmentation"
RASTER_LABELS = {
    "kind": "raster",
    "encoding": "id",
    "map": None,
    "other": "error",
    "nodata": None,
    "resample": "error",
}


def run_stage(
    name: str,
    inputs: Mapping[str, Sequence[Path]],
    settings: Mapping[str, Any],
    outputs: Path,
    progress: Progress | None = None,
) -> Path:
    """Run one stage into a fresh directory `outputs` and return it."""
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    importlib.import_module(f"rvbuild.stages.{name}").run(inputs, settings, outputs, progress or Silent())
    return outputs


def chip_settings(size_px: int, stride_px: int) -> dict[str, Any]:
    return {
        "task": TASK,
        "scene": "bench",
        "image": {"nodata": None},
        "channels": None,
        "labels": RASTER_LABELS,
        "classes": CLASSES,
        "null_id": NULL_ID,
        "chip": {
            "size_px": size_px,
            "stride_px": stride_px,
            "method": "sliding",
            "per_scene": 100,
            "size_limits_px": None,
            "within_aoi": True,
            "max_nodata": 1.0,
            "keep": None,
        },
        "seed": 0,
    }


def train_settings(model: str, chip_px: int, **train: Any) -> dict[str, Any]:
    defaults = {
        "model": model,
        "model_args": {},
        "pretrained": False,
        "epochs": 1,
        "batch_size": 8,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "momentum": 0.9,
        "lr": 1e-4,
        "schedule": "constant",
        "step_epochs": [],
        "class_weights": "none",
        "loss": "cross_entropy",
        "loss_args": {},
        "augment": ["flip", "rotate90"],
        "select": "last",
        "select_metric": "mean_iou",
        "patience": 0,
        "max_stds": 3.0,
        "device": "cpu",
        "amp": "auto",
        "workers": 0,
    }
    return {
        "task": TASK,
        "classes": CLASSES,
        "null_id": NULL_ID,
        "chip_px": chip_px,
        "channels": None,
        "train": defaults | train,
        "seed": 0,
    }


def predict_settings(chip_px: int, stride_px: int, blend: str, **predict: Any) -> dict[str, Any]:
    return {
        "task": TASK,
        "image": {"nodata": None},
        "channels": None,
        "classes": CLASSES,
        "null_id": NULL_ID,
        "chip_px": chip_px,
        "predict": {
            "stride_px": stride_px,
            "batch_size": 8,
            "blend": blend,
            "scores": False,
            "rgb": False,
            "vectors": [],
            "device": "cpu",
            **predict,
        },
    }


def evaluate_settings() -> dict[str, Any]:
    return {
        "task": TASK,
        "scene": "bench",
        "labels": RASTER_LABELS,
        "classes": CLASSES,
        "null_id": NULL_ID,
        "eval": {},
    }


def analyze_settings() -> dict[str, Any]:
    return {"image": {"nodata": None}, "channels": None, "sample": 1.0, "seed": 0}


def chips_of(
    folder: Path, image: Path, labels: Path, size_px: int, stride_px: int, *, store: bool = True
) -> list[Path]:
    """Return the files of a chip artifact."""
    settings = chip_settings(size_px, stride_px)
    settings["chip"]["store"] = store
    outputs = run_stage("chip.stage", {"image": [image], "labels": [labels]}, settings, folder)
    return sorted(path for path in outputs.iterdir() if path.suffix in {".json", ".safetensors"})


def model_of(folder: Path, model: str, chip_px: int, **train: Any) -> list[Path]:
    """Return the files of a model that was trained for one epoch on eight chips of noise."""
    from benchmarks.scenes import write_raster

    folder.mkdir(parents=True, exist_ok=True)
    image = write_raster(folder / "image.tif", 4 * chip_px, 3, 256)
    labels = write_raster(folder / "labels.tif", 4 * chip_px, 1, 2)
    chips = chips_of(folder / "chips", image, labels, chip_px, 2 * chip_px)
    inputs = {"chips/train/bench": chips, "stats": [stats_of(folder / "stats", image)]}
    outputs = run_stage("train.stage", inputs, train_settings(model, chip_px, **train), folder / "model")
    return [outputs / "model.safetensors", outputs / "model.json"]


def classes(count: int) -> list[dict[str, Any]]:
    """Return classes of which the last one is null."""
    return [{"id": number, "name": f"class {number}", "color": f"#0000{number:02x}"} for number in range(count)]


def random_model(
    folder: Path, task: str, name: str, chip_px: int, args: Mapping[str, Any] | None = None, class_count: int = 3
) -> list[Path]:
    """Return the files of a model with random weights, for `classes(class_count)`."""
    import torch

    from rvbuild.learn import models
    from rvbuild.learn.checkpoint import save_model
    from rvbuild.learn.model_files import ModelInfo

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    known = classes(class_count)
    model = models.build(task, name, bands=3, outputs=class_count - 1, args=args or {})
    info = ModelInfo(
        task=task,
        model=name,
        model_args=dict(args or {}),
        bands=3,
        dtype="uint8",
        outputs=[item["name"] for item in known[:-1]],
        classes=known,
        null_id=class_count - 1,
        chip_px=chip_px,
        normalize={"kind": "scale", "max": 255},
    )
    save_model(folder, model.state_dict(), info)
    return [folder / "model.safetensors", folder / "model.json"]


def as_trained(model_files: Sequence[Path]) -> Any:
    """Return a model as training left it: loaded, in eval mode, channels last, and nothing else done to it."""
    import safetensors.torch
    import torch

    from rvbuild.learn import models
    from rvbuild.learn.device import place
    from rvbuild.learn.model_files import read_info

    info = read_info(model_files[1])
    model = models.build(info.task, info.model, bands=info.bands, outputs=len(info.outputs), args=dict(info.model_args))
    model.load_state_dict(safetensors.torch.load_file(model_files[0]))
    return place(model, torch.device("cpu")).eval()


def stats_of(folder: Path, image: Path) -> Path:
    """Return the stats.json of one image."""
    single = run_stage("analyze.scene", {"image": [image]}, analyze_settings(), folder / "one")
    merged = run_stage("analyze.merge", {"stats/bench": [single / "stats.json"]}, {}, folder / "merged")
    return merged / "stats.json"
