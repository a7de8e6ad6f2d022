"""Chips as torch datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import rvbuild


def test_chips_must_be_up_to_date(fresh: Path) -> None:
    project = rvbuild.open(fresh)
    with pytest.raises(rvbuild.UsageError, match=r'chip:a is missing .*project\.build\("chip"\)'):
        project.dataset()
    project.build("chip", inline=True)
    chips = project.dataset("train")
    assert len(chips) > 4 and chips.classes == ["building", "ground", "null"] and chips.class_counts.sum() > 0
    with pytest.raises(rvbuild.UsageError, match='expected "train" or "validation"'):
        project.dataset("test")
    with pytest.raises(IndexError):
        chips[len(chips)]


def test_a_chip_holds_the_pixels_of_its_scene(built: Callable[[str], Path]) -> None:
    project = rvbuild.open(built("segmentation"))
    chips, scene = project.dataset("validation"), project.scenes["c"]
    image, valid = scene.read((0, 0, 32, 32))
    assert np.array_equal(chips[0]["image"].numpy(), image) and np.array_equal(chips[0]["valid"].numpy(), valid)
    assert np.array_equal(chips[0]["labels"].numpy(), scene.labels((0, 0, 32, 32))["labels"])
    assert torch.equal(chips[-1]["image"], chips[len(chips) - 1]["image"])


def test_chips_that_are_not_stored_are_read_from_imagery(fresh: Path) -> None:
    stored = rvbuild.open(fresh)
    stored.build("chip", inline=True)
    chips = [stored.dataset()[i]["image"] for i in range(3)]
    project = rvbuild.open(fresh, set={"chip.store": False})
    project.build("chip", inline=True)
    assert all(torch.equal(project.dataset()[i]["image"], chip) for i, chip in enumerate(chips))


@pytest.mark.parametrize("task", ["segmentation", "cells", "boxes"])
def test_batches_are_those_of_the_task(built: Callable[[str], Path], task: str) -> None:
    project = rvbuild.open(built(task))
    batch = next(iter(project.dataloader("train", batch_size=3, shuffle=False)))
    side = project.dataset().size_px
    assert batch["image"].shape == batch["valid"].shape == (3, 3, side, side)
    if task == "segmentation":
        assert batch["labels"].shape == (3, 32, 32)
    elif task == "cells":
        assert batch["classes"].shape == (3,)
    else:
        assert len(batch["boxes"]) == 3 and batch["boxes"][0].shape[1:] == (4,)


@pytest.mark.slow
def test_processes_load_chips(built: Callable[[str], Path]) -> None:
    project = rvbuild.open(built("segmentation"))
    here = list(project.dataloader("validation"))
    there = list(project.dataloader("validation", num_workers=1, multiprocessing_context="spawn"))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(here, there, strict=True))
