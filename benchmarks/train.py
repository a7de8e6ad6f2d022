"""Training against a bare loop of forward, backward and optimizer steps on batches that are in memory already."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.bar import Figure, interleaved
from benchmarks.scenes import write_raster
from benchmarks.stage import TASK, chips_of, run_stage, stats_of, train_settings

MODEL, CHIP_PX, BATCH, STEPS = "lraspp_mobilenet_v3_large", 300, 8, 8
SIDE = 8  # chips along one side of the scene: 64 chips, 8 steps an epoch


class Clock:
    """A progress that remembers when each batch of the first epoch was done."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._counting = False

    def start(self, what: str, total: int, unit: str) -> None:
        self._counting = what.startswith("epoch 1/")

    def advance(self, n: int = 1) -> None:
        if self._counting:
            self.times.append(time.perf_counter())

    def note(self, message: str) -> None:
        pass

    def seconds_a_step(self) -> float:
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


def run(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True)
    image = write_raster(folder / "image.tif", SIDE * CHIP_PX, 3, 256)
    labels = write_raster(folder / "labels.tif", SIDE * CHIP_PX, 1, 2)
    inputs = {
        "chips/train/bench": chips_of(folder / "chips", image, labels, CHIP_PX, CHIP_PX),
        "stats": [stats_of(folder / "stats", image)],
    }

    def stage() -> float:
        clock = Clock()
        run_stage("train", inputs, train_settings(MODEL, CHIP_PX, batch_size=BATCH), folder / "model", clock)
        return clock.seconds_a_step()

    bare, ours = interleaved(3, _bare, stage)
    note = f"{BATCH / ours:.2f} against {BATCH / bare:.2f} samples/s, {MODEL}, {CHIP_PX} px, batch {BATCH}"
    return [Figure("train, samples/s over a bare loop", bare / ours, 0.9, "", False, note)]


def _bare() -> float:
    """Return the seconds of one step."""
    from rvbuild.learn import models
    from rvbuild.learn.device import place, set_threads

    set_threads()
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
        times.append(time.perf_counter())
    return (times[-1] - times[0]) / (len(times) - 1)
