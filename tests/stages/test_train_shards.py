"""Trainings in shards: the same bytes for any number of processes, with any options, also after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from rvbuild.learn.passes.base import Passes
from rvbuild.learn.shards.group import Alone, Connected, Group
from rvbuild.learn.shards.processes import Work, run_together
from rvbuild.progress import Progress
from rvbuild.stages.train import stage as train
from tests.learn.chipmaker import CLASSES, NULL_ID, Notes, chip_arrays, train_settings, write_chips
from tests.stages.test_train_options import MANY, cells
from tests.tasks import test_detection_model as detection

Inputs = dict[str, list[Path]]

SEGMENTATION: dict[str, dict[str, Any]] = {
    "plain": {"shards": 2},
    "many": {
        **{
            "shards": 4,
            "batch_size": 8,
            "epochs": 3,
            "optimizer": "sgd",
            "clip_norm": 0.1,
            "accumulate": 2,
            "ema": 0.9,
        },
        **{"loss": {"cross_entropy": 1.0, "dice": 0.5}, "class_weights": "balanced", "select": "best"},
        **{
            "patience": 2,
            "select_metric": "mean_iou",
            "checkpoints": True,
            "sampling": "balanced",
            "augment": ["crop", "noise"],
        },
    },
    "frozen": {"shards": 3, "freeze": 1, "encoder_lr": 0.5, "layer_decay": 0.8, "augment": ["mixup"], "batch_size": 6},
    "half": {"shards": 2, "schedule": "constant"},
    "ensemble": {"shards": 2, "batch_size": 5, "model_args": {"width": 4, "depth": 2, "ensemble": [0.5, 1.0]}},
}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "1")


def segmentation(folder: Path) -> Inputs:
    """Write chips, of which some have few labels; the last batch of an epoch is a small one."""
    paths = {}
    for seed, (split, scene, count) in enumerate([("train", "b", 6), ("train", "a", 7), ("validation", "c", 5)]):
        images, labels = chip_arrays(count, seed=seed)
        labels[0], labels[1, :12] = NULL_ID, NULL_ID
        paths[f"chips/{split}/{scene}"] = write_chips(folder / scene, scene, images, labels)
    return paths


def settings(task: str = "semantic_segmentation", **changes: Any) -> dict[str, Any]:
    return {
        **{"task": task, "classes": CLASSES, "null_id": NULL_ID, "chip_px": 16, "seed": 1},
        "train": train_settings(**changes),
    }


def cases(folder: Path) -> dict[str, tuple[Inputs, dict[str, Any]]]:
    """Return the inputs and the settings of each training."""
    chips = segmentation(folder / "chips")
    of_cells = {f"chips/{split}/{split}": cells(folder / split, split, 1) for split in ("train", "validation")}
    of_boxes = {
        "chips/train/a": detection.write_chips(folder / "boxes", "a", 6, 0),
        "chips/validation/b": detection.write_chips(folder / "more boxes", "b", 5, 1),
    }
    return {
        **{name: (chips, settings(**changes)) for name, changes in SEGMENTATION.items()},
        "cells": (
            of_cells,
            settings(
                "chip_classification",
                **{**MANY, "shards": 2, "model": "cnn", "model_args": {"width": 4, "depth": 2}},
                **{"select_metric": "accuracy", "augment": ["cutmix", "mixup"]},
            ),
        ),
        "boxes": (
            of_boxes,
            {
                **settings(
                    "object_detection",
                    **{"shards": 2, "model": "fasterrcnn_resnet18_fpn", "model_args": detection.ARGS, "ema": 0.9},
                    **{"select": "best", "select_metric": "mean_ap50", "epochs": 1},
                ),
                "chip_px": detection.SIZE,
                "classes": detection.CLASSES,
            },
        ),
    }


class Killed(BaseException):
    pass


def train_case(
    name: str,
    case: tuple[Inputs, dict[str, Any]],
    outputs: Path,
    group: Group,
    resume: Path | None = None,
    killed_in: int | None = None,
) -> Notes:
    """Train one case as a member of a group, perhaps until it is killed in an epoch; return what it says."""
    if group.first:
        outputs.mkdir(parents=True)
    progress, requests = Notes(), Passes.requests

    def until_killed(passes: Passes, epoch: int) -> Any:
        if epoch == killed_in:
            raise Killed
        return requests(passes, epoch)

    half = mock.patch("rvbuild.learn.passes.base.amp_dtype", lambda amp, device: torch.float16)
    with (
        mock.patch.object(Passes, "requests", until_killed),
        half if name == "half" else contextlib.nullcontext(),
        contextlib.suppress(Killed),
    ):
        train.train_part(*case, outputs, group, progress, resume)
    return progress


def train_all(folder: Path, group: Group, progress: Progress) -> None:
    """Train all cases as one of two processes, the rest of one that one process has begun, and the start of another."""
    of_shards = {shards: Connected(shards, 0 if group.first else 1, 2) for shards in (2, 3, 4)}
    every = every_case(folder)
    for name, case in every.items():
        said = train_case(name, case, folder / "two" / name, of_shards[case[1]["train"]["shards"]])
        if group.first:
            progress.note(f"{name}: {said.advanced}")
    train_case("many", every["many"], folder / "rest", of_shards[4], folder / "resume of rest")
    train_case("many", every["many"], folder / "start", of_shards[4], folder / "resume of start", killed_in=3)


def every_case(folder: Path) -> dict[str, tuple[Inputs, dict[str, Any]]]:
    text = json.loads((folder / "cases.json").read_text())
    return {
        name: ({role: [Path(file) for file in files] for role, files in inputs.items()}, given)
        for name, (inputs, given) in text.items()
    }


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Notes]]:
    """Train all cases by one process, and by two."""
    folder, progress = tmp_path_factory.mktemp("trained"), Notes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RVBUILD_THREADS", "1")
        (folder / "cases.json").write_text(json.dumps(cases(folder / "inputs"), default=str))
        every = every_case(folder)
        for name, case in every.items():
            train_case(name, case, folder / "one" / name, Alone(case[1]["train"]["shards"]))
        train_case("many", every["many"], folder / "begun", Alone(4), folder / "resume of rest", killed_in=2)
        run_together(Work(f"{__name__}:train_all", {"folder": folder}, 4, 2, "cpu"), progress)
        yield folder, progress


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SEGMENTATION, "cells", "boxes"])
def test_two_processes_and_one_give_the_same_bytes(trained: tuple[Path, Notes], name: str) -> None:
    folder, progress = trained
    one = digests(folder / "one" / name)
    assert one == digests(folder / "two" / name)
    assert {"log.jsonl", "model.safetensors"} <= set(one)
    assert [note for note in progress.notes if note.startswith(f"{name}: ")]


@pytest.mark.slow
def test_killed_and_continued_by_another_number_of_processes(trained: tuple[Path, Notes]) -> None:
    folder, _ = trained
    whole = digests(folder / "one" / "many")
    assert digests(folder / "rest") == whole and not digests(folder / "begun")
    assert not digests(folder / "start")
    said = train_case("many", every_case(folder)["many"], folder / "end", Alone(4), folder / "resume of start")
    assert said.notes[0] == "continuing after epoch 2" and digests(folder / "end") == whole
