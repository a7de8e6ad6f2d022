"""Trainings with the options of `[train]`: each has its effect, and killed ones continue to the same bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.errors import ModelError
from rvbuild.geo.windows import Window
from rvbuild.language.user_code import Code, serve_code
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.normalize import Normalizer
from rvbuild.stages.chip.shards import ShardWriter
from rvbuild.stages.train import stage as train
from rvbuild.tasks.classification import task as classification
from rvbuild.tasks.segmentation import task as segmentation
from tests.learn.chipmaker import CLASSES, NULL_ID, Notes, chip_arrays, stats_of, train_settings, write_chips
from tests.tasks import test_detection_model as detection

Inputs = dict[str, list[Path]]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder, paths = tmp_path_factory.mktemp("chips"), {}
    for seed, (split, scene, count) in enumerate([("train", "b", 6), ("train", "a", 7), ("validation", "c", 5)]):
        images, labels = chip_arrays(count, seed=seed)
        paths[f"chips/{split}/{scene}"] = write_chips(folder / scene, scene, images, labels)
    stats = folder / "stats.json"
    stats.write_text(json.dumps(stats_of(chip_arrays(13)[0])))
    return {**paths, "stats": [stats]}


def build(
    folder: Path, inputs: Inputs, resume: Path | None = None, progress: Any = None, **changes: Any
) -> dict[str, str]:
    """Run the stage; return the digest of each file."""
    folder.mkdir(parents=True)
    given = {"task": "semantic_segmentation", "classes": CLASSES, "null_id": NULL_ID, "chip_px": 16, "channels": None}
    settings = {**given, "train": train_settings(**changes), "seed": 1}
    train.run(inputs, settings, folder, progress or Notes(), resume=resume)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class Killed(BaseException):
    pass


class Killer(Notes):
    """Kills a training after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def advance(self, n: int = 1) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "freeze": st.integers(1, 3),
    "encoder_lr": st.just(0.1),
    "layer_decay": st.just(0.7),
    "ema": st.sampled_from([0.3, 0.999]),
    "accumulate": st.integers(2, 5),
    "warmup_epochs": st.sampled_from([0.3, 1.0, 1.5]),
    "clip_norm": st.just(0.1),
    "loss": st.sampled_from([{"cross_entropy": 1.0, "focal": 0.5}, {"focal": 1.0, "label_smoothing": 0.2}]),
    "augment": st.lists(
        st.sampled_from(["flip", "crop", "scale", "gamma", "blur", "noise", "band_drop", "cutmix", "mixup"]),
        unique=True,
    ),
    "schedule": st.sampled_from(["one_cycle", "cosine", "step", "constant"]),
    "optimizer": st.sampled_from(["adam", "adamw", "sgd"]),
    "select": st.sampled_from(["last", "best"]),
    "sampling": st.just("balanced"),
    "checkpoints": st.just(True),
    "model_args": st.just({"width": 4, "depth": 2, "ensemble": [0.5, 1.0]}),
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=OPTIONS), st.lists(st.integers(0, 21), min_size=1, max_size=3))
def test_killed_anywhere_with_any_options_it_ends_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, inputs: Inputs, options: dict[str, Any], kills: list[int]
) -> None:
    tmp_path = tmp_path_factory.mktemp("killed")
    changes = {"epochs": 4, "step_epochs": [2], **options}
    whole = build(tmp_path / "whole", inputs, **changes)
    resume = tmp_path / "resume"
    for number, batches in enumerate(kills):
        try:
            build(tmp_path / f"part{number}", inputs, resume, Killer(batches), **changes)
        except Killed:
            continue
    assert build(tmp_path / "again", inputs, resume, **changes) == whole


def test_a_frozen_encoder_is_what_it_started_as(tmp_path: Path, inputs: Inputs) -> None:
    for name, changes in {
        "start": {"lr": 1e-30, "weight_decay": 0.0},
        "frozen": {"freeze": 2},
        "half": {"freeze": 1},
    }.items():
        build(tmp_path / name, inputs, lr=0.01, **changes) if name != "start" else build(
            tmp_path / name, inputs, **changes
        )
    start, frozen, half = (weights(tmp_path / name) for name in ("start", "frozen", "half"))
    for name, value in frozen.items():
        if not name.startswith("down"):
            continue
        if "running_mean" in name:
            assert not value.any() and half[name].any()
        elif "running_var" in name:
            assert (value == 1).all()
        elif value.dim() > 1:
            assert torch.equal(value, start[name]) and not torch.equal(half[name], start[name])
    assert not torch.equal(frozen["head.weight"], start["head.weight"])


def test_the_average_of_the_weights_is_what_is_validated_and_kept(tmp_path: Path, inputs: Inputs) -> None:
    build(tmp_path / "raw", inputs, epochs=3, lr=0.02)
    build(tmp_path / "ema", inputs, epochs=3, lr=0.02, ema=0.9)
    assert log(tmp_path / "raw")[0]["train_loss"] == log(tmp_path / "ema")[0]["train_loss"]
    assert not torch.equal(weights(tmp_path / "raw")["head.weight"], weights(tmp_path / "ema")["head.weight"])
    model, info = load_model(tmp_path / "ema/model.safetensors", tmp_path / "ema/model.json", "cpu")
    images, labels = chip_arrays(5, seed=2)
    predicted = np.array(info.output_ids)[segmentation.forward(model, Normalizer(info)(images)).argmax(axis=1)]
    known, ious = labels != NULL_ID, []
    for class_id in info.output_ids:
        both = ((predicted == class_id) & (labels == class_id) & known).sum()
        ious.append(both / (((predicted == class_id) | (labels == class_id)) & known).sum())
    assert np.mean(ious) == pytest.approx(log(tmp_path / "ema")[-1]["metrics"]["mean_iou"], abs=1e-12)


def test_a_sum_of_losses_is_logged_by_part(tmp_path: Path, inputs: Inputs) -> None:
    build(tmp_path / "sum", inputs, loss={"dice": 0.5, "cross_entropy": 2.0}, class_weights="balanced", accumulate=2)
    for line in log(tmp_path / "sum"):
        for split in ("train", "val"):
            parts = line[f"{split}_losses"]
            assert set(parts) == {"cross_entropy", "dice"}
            assert sum(parts.values()) == pytest.approx(line[f"{split}_loss"], rel=1e-5)
    assert "dice, validation" in (tmp_path / "sum/curves.svg").read_text()
    named = {"loss": "dice_cross_entropy", "loss_args": {"lambda_dice": 0.5, "lambda_ce": 2.0}}
    build(tmp_path / "named", inputs, class_weights="balanced", accumulate=2, **named)
    losses = [log(tmp_path / name)[-1]["train_loss"] for name in ("sum", "named")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_augmented_and_mixed_chips_are_the_same_in_any_process(tmp_path: Path, inputs: Inputs) -> None:
    names = ["flip", "crop", "scale", "gamma", "blur", "noise", "band_drop", "cutmix", "mixup"]
    changes = {"augment": names, "augment_args": {"crop": {"probability": 1.0}, "mixup": {"probability": 1.0}}}
    first = build(tmp_path / "first", inputs, **changes)
    assert build(tmp_path / "second", inputs, workers=2, **changes) == first


def test_a_users_model_has_to_tell_its_encoder(tmp_path: Path, inputs: Inputs) -> None:
    code = tmp_path / "nets_of_mine.py"
    code.write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self, bands, outputs, name):\n        super().__init__()\n"
        "        self.name, part = name, nn.Sequential(nn.Conv2d(bands, 4, 1), nn.BatchNorm2d(4))\n"
        "        self.add_module(name, part)\n        self.head = nn.Conv2d(4, outputs, 1)\n\n"
        "    def forward(self, x):\n        return self.head(getattr(self, self.name)(x))\n"
    )
    serve_code(Code(str(tmp_path), {"nets_of_mine": str(code)}))
    try:
        own = {"model": "nets_of_mine:Net", "freeze": 1, "layer_decay": 0.5}
        build(tmp_path / "named", inputs, model_args={"name": "encoder"}, **own)
        with pytest.raises(ModelError, match="Net has no module named encoder or backbone"):
            build(tmp_path / "other", inputs, model_args={"name": "trunk"}, **own)
    finally:
        serve_code(None)


def cells(folder: Path, scene: str, seed: int) -> list[Path]:
    """Write chips of one class each, brighter or darker; return the files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    ids, valid = rng.choice([0, 2], 7).astype(np.uint8), np.ones((3, 16, 16), dtype=bool)
    shards = ShardWriter(folder, 0, classification.pack, (3, 16, 16), np.dtype("uint8"), 7)
    for class_id in ids:
        image = rng.integers(60 * class_id, 60 * class_id + 90, (3, 16, 16), dtype=np.uint8)
        shards.add(Window(0, 0, 16, 16), image, valid, {"classes": np.array(class_id)})
    shards.finish()
    counts = np.eye(3, dtype=int)[ids]
    index = {
        **{"scene": scene, "task": "chip_classification", "size_px": 16, "dtype": "uint8", "bands": 3, "count": 7},
        **{"classes": [c["name"] for c in CLASSES], "shards": shards.shards, "class_counts": counts.sum(0).tolist()},
        "chip_class_counts": counts.tolist(),
    }
    (folder / "index.json").write_text(json.dumps(index))
    return sorted(folder.iterdir())


MANY = {
    **{"epochs": 3, "freeze": 1, "layer_decay": 0.8, "encoder_lr": 0.5, "ema": 0.9, "accumulate": 2},
    **{"warmup_epochs": 0.5, "clip_norm": 0.5, "select": "best"},
}


def test_classification_with_many_options(tmp_path: Path) -> None:
    inputs = {"chips/train/a": cells(tmp_path / "a", "a", 0), "chips/validation/b": cells(tmp_path / "b", "b", 1)}

    def run(name: str, resume: Path | None = None, progress: Any = None) -> dict[str, str]:
        (tmp_path / name).mkdir()
        changes = {
            **MANY,
            **{"model": "cnn", "model_args": {"width": 4, "depth": 2}, "select_metric": "accuracy"},
            **{"loss": {"cross_entropy": 1.0, "label_smoothing": 0.5}, "augment": ["crop", "cutmix", "mixup"]},
        }
        given = {"task": "chip_classification", "classes": CLASSES, "null_id": NULL_ID, "chip_px": 16, "seed": 1}
        train.run(inputs, {**given, "train": train_settings(**changes)}, tmp_path / name, progress or Notes(), resume)
        return {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((tmp_path / name).iterdir())
        }

    whole = run("whole")
    with pytest.raises(Killed):
        run("part", tmp_path / "resume", Killer(5))
    assert run("again", tmp_path / "resume") == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "args"),
    [
        ("fasterrcnn_resnet18_fpn", detection.ARGS),
        ("ssdlite_mobilenet_v3_large", {}),
    ],
)
def test_detection_with_many_options(tmp_path: Path, model: str, args: dict[str, Any]) -> None:
    inputs = {
        "chips/train/a": detection.write_chips(tmp_path / "a", "a", 6, 0),
        "chips/validation/b": detection.write_chips(tmp_path / "b", "b", 3, 1),
    }
    changes = {**MANY, "model": model, "model_args": args, "batch_size": 2, "augment": ["crop", "scale", "blur"]}
    whole = detection.build(tmp_path / "whole", inputs, **changes)
    with pytest.raises(Killed):
        detection.build(tmp_path / "part", inputs, tmp_path / "resume", Killer(7), **changes)
    assert detection.build(tmp_path / "again", inputs, tmp_path / "resume", **changes) == whole
