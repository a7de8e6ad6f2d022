"""Training against a bare loop of forward, backward and optimizer steps on batches that are in memory already.

And training from scenes against training from stored chips: whole, and the making of batches alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bar import Cost, Figure, cpu, interleaved
from benchmarks.scenes import write_raster
from benchmarks.stage import TASK, chips_of, run_stage, stats_of, train_settings

MODEL, CHIP_PX, BATCH, STEPS = "lraspp_mobilenet_v3_large", 300, 8, 8
SIDE = 8  # chips along one side of the scene: 64 chips, 8 steps an epoch


class Clock:
    """A progress that remembers when each batch of the first epoch was done: in CPU seconds, or as `now` tells."""

    def __init__(self, now: Callable[[], float] = cpu) -> None:
        self.times: list[float] = []
        self._now = now
        self._counting = False

    def start(self, step: str, total: int, unit: str) -> None:
        self._counting = step.startswith("epoch 1/")

    def advance(self, n: int = 1) -> None:
        if self._counting:
            self.times.append(self._now())

    def note(self, message: str) -> None:
        pass

    def seconds_a_step(self) -> float:
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


def inputs_of_training(folder: Path) -> dict[str, list[Path]]:
    """Return the inputs of a training, in a new folder: chips of `image.tif` and `labels.tif`, which are made."""
    folder.mkdir(parents=True)
    image = write_raster(folder / "image.tif", SIDE * CHIP_PX, 3, 256)
    labels = write_raster(folder / "labels.tif", SIDE * CHIP_PX, 1, 2)
    return {
        "chips/train/bench": chips_of(folder / "chips", image, labels, CHIP_PX, CHIP_PX),
        "stats": [stats_of(folder / "stats", image)],
    }


def run(folder: Path) -> list[Figure]:
    inputs = inputs_of_training(folder)
    labels = folder / "labels.tif"

    def stage() -> float:
        clock = Clock()
        run_stage("train.stage", inputs, train_settings(MODEL, CHIP_PX, batch_size=BATCH), folder / "model", clock)
        return clock.seconds_a_step()

    compressed = write_raster(folder / "deflate.tif", SIDE * CHIP_PX, 3, 64, compress="deflate")
    chips = chips_of(folder / "away", compressed, labels, CHIP_PX, CHIP_PX, store=False)
    scene = {**inputs, "chips/train/bench": chips, "pixels/train/bench": [compressed]}
    settings = train_settings(MODEL, CHIP_PX, batch_size=BATCH)
    settings["pixels"] = {"train/bench": {"image": {"nodata": None}, "channels": None}}

    def from_scene() -> float:
        clock = Clock()
        run_stage("train.stage", scene, settings, folder / "model", clock)
        return clock.seconds_a_step()

    bare, ours, unstored = interleaved(3, _bare, stage, from_scene)
    note = f"{BATCH / ours:.2f} against {BATCH / bare:.2f} samples/s, {MODEL}, {CHIP_PX} px, batch {BATCH}"
    mapped, decoded = (_reading(each, settings) for each in (inputs, scene))
    away = (
        f"{BATCH / unstored:.2f} against {BATCH / ours:.2f} samples/s, a deflated TIFF; batches alone are made at "
        f"{1 / decoded:.0f} against {1 / mapped:.0f} chips/s"
    )
    sample, read = Cost("sample", ours / BATCH, bare / BATCH), Cost("sample", unstored / BATCH, ours / BATCH)
    return [
        Figure("train, samples/s over a bare loop", bare / ours, 0.9, "", False, note, sample),
        Figure("train from scenes, samples/s over stored chips", ours / unstored, 0.9, "", False, away, read),
    ]


def _reading(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any]) -> float:
    """Return the seconds in which one chip is read, in any order."""
    from rvbuild import tasks
    from rvbuild.learn.chips.dataset import Chips
    from rvbuild.learn.chips.scene_images import Imagery
    from rvbuild.learn.hooks import TargetOps

    task, imagery = tasks.get(TASK), {}
    if "pixels/train/bench" in inputs:
        imagery["chips/train/bench"] = Imagery(inputs["pixels/train/bench"], settings["pixels"]["train/bench"])
    files = {"chips/train/bench": inputs["chips/train/bench"]}
    chips = Chips(files, TargetOps(task.unpack, task.orient, task.collate), imagery)
    order = np.random.default_rng(0).permutation(len(chips)).tolist()
    start = cpu()
    for position in order:
        sample = chips[position]
        np.ascontiguousarray(sample.image) + 0, sample.target["labels"] + 0
    return (cpu() - start) / len(chips)


def _bare() -> float:
    """Return the seconds of one step."""
    from rvbuild.cores import thread_count
    from rvbuild.learn import models
    from rvbuild.learn.device import place

    torch.set_num_threads(thread_count())
    torch.manual_seed(0)
    model = place(models.build(TASK, MODEL, bands=3, outputs=2, args={}), torch.device("cpu")).train()
    images = torch.rand(BATCH, 3, CHIP_PX, CHIP_PX).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 2, (BATCH, CHIP_PX, CHIP_PX))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    times = []
    for _ in range(STEPS):
        output = model(images)
        logits = output["out"] if isinstance(output, dict) else output
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        times.append(cpu())
    return (times[-1] - times[0]) / (len(times) - 1)
