"""A training in two shards by two processes of one thread each, against one such process; both give the same bytes."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from benchmarks.bar import Figure, at_least_cores, interleaved
from benchmarks.stage import run_stage, train_settings
from benchmarks.train import BATCH, CHIP_PX, MODEL, Clock, inputs_of_training

SHARDS = 2


def run(folder: Path) -> list[Figure]:
    inputs = inputs_of_training(folder)
    models: set[str] = set()

    def training(processes: int, shards: int = SHARDS) -> float:
        clock = Clock(time.perf_counter)  # the processor works for other processes
        changes = {"shards": shards} if shards > 1 else {}
        settings = train_settings(MODEL, CHIP_PX, batch_size=BATCH, threads=1, processes=processes, **changes)
        outputs = run_stage("train.stage", inputs, settings, folder / "model", clock)
        if shards > 1:
            models.add(hashlib.sha256((outputs / "model.safetensors").read_bytes()).hexdigest())
        return clock.seconds_a_step()

    with at_least_cores(SHARDS):
        whole, one, two = interleaved(3, lambda: training(1, 1), lambda: training(1), lambda: training(SHARDS))
    note = f"{BATCH / two:.2f} against {BATCH / one:.2f} samples/s, {MODEL}, {CHIP_PX} px, batch {BATCH}, 1 thread each"
    return [
        Figure("train in 2 shards, 2 processes over 1", one / two, 1.6, "×", False, note),
        Figure("train in 2 shards, models of 1 and 2 processes", len(models), 1, "", True, "digests of the weights"),
        Figure("train in 2 shards by 1 process over whole batches", whole / one, 0.85, "×", False, "samples/s"),
    ]
