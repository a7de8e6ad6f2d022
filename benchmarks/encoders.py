"""Which of timm's networks work as encoders: `python -m benchmarks.encoders [RESULTS]` tries all, small ones first.

For 1, 3, 4 and 13 bands, each is built under a U-Net with random weights, trained a step, saved, interrupted in its
second step, built anew and resumed. It works if the second step has the same loss to the last bit in the interrupted
and in the resumed training.

RESULTS (default: cache/benchmarks/encoders.jsonl) has a line for each network. What is in it is not tried again, so a
run can be stopped and continued. The tables of the results are printed at the end, and at once with `--tables`. All of
it takes some hours of one core, and nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import rvbuild
from benchmarks.quick_init import quick_init
from rvbuild.learn import models
from rvbuild.project.networks import TIMM, timm

RESULTS = Path("cache/benchmarks/encoders.jsonl")
BANDS = (1, 3, 4, 13)
CHIPS, CHIP_PX = 2, 64
DECODER = {"decoder_channels": [16, 16, 8, 8, 8]}

BYTES_PER_PARAMETER = 20
"""Weights, gradients, the copy to be saved, the file, and the second network."""
MEMORY_BYTES = 6 << 30

_SHOWN = 160


class _InterruptError(Exception):
    """Interrupts a training."""


def main(arguments: list[str]) -> int:
    path = Path(next((each for each in arguments if not each.startswith("-")), RESULTS))
    done = read(path)
    if "--tables" not in arguments:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        path.parent.mkdir(parents=True, exist_ok=True)
        for network in sorted(timm.networks().values(), key=lambda network: network.parameters):
            if network.strides and network.name not in done:
                done[network.name] = _recorded(path, network)
    print(tables(done))
    return 0


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the results by network; one that ended the process has its start alone, and counts as failed."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results = {result["name"]: result for result in map(json.loads, lines)}
    for result in results.values():
        if result.pop("started", False):
            result["problem"] = "the process ended"
    return results


def _recorded(path: Path, network: timm.Network) -> dict[str, Any]:
    result: dict[str, Any] = {"name": network.name, "parameters": network.parameters}
    if network.parameters * BYTES_PER_PARAMETER > MEMORY_BYTES:
        result["skipped"] = "memory"
    else:
        _append(path, {**result, "started": True})
        start = time.process_time()
        try:
            for bands in BANDS:
                try_network(network.name, bands)
            result["problem"] = ""
        except Exception as error:  # whatever a network raises is what is wanted
            result["problem"] = f"{bands} bands: {type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
        result["seconds"] = round(time.process_time() - start, 1)
        gc.collect()
    _append(path, result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(result, f"peak {peak} MiB", file=sys.stderr, flush=True)
    return result


def _append(path: Path, result: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        print(json.dumps(result), file=file)


def try_network(name: str, bands: int) -> None:
    """Build, train, save and resume a network of timm; raise an error if that does not work."""
    generator = torch.Generator().manual_seed(0)
    chips = torch.rand(CHIPS, bands, CHIP_PX, CHIP_PX, generator=generator)
    data = TensorDataset(chips, torch.randint(2, (CHIPS, CHIP_PX, CHIP_PX), generator=generator))
    losses: list[float] = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = nn.functional.cross_entropy(logits, labels)
        losses.append(float(value.detach()))
        if len(losses) > 1:
            raise _InterruptError
        return value

    def train(resume: Path) -> None:
        with contextlib.suppress(_InterruptError):
            rvbuild.fit(
                _built(name, bands),
                data,
                loss=loss,
                epochs=2,
                batch_size=CHIPS,
                optimizer="sgd",
                schedule="constant",
                device="cpu",
                resume=resume,
            )

    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="rvbuild-encoders-", dir=memory) as folder:
        train(Path(folder))
        train(Path(folder))
    # A training that started again would have the loss of the first step.
    first, second, resumed = losses
    if not math.isfinite(second) or second == first or resumed != second:
        raise AssertionError(f"the second step after {first} has the loss {second}, and resumed {resumed}")


def _built(name: str, bands: int) -> nn.Module:
    with quick_init():
        return models.build(
            "semantic_segmentation",
            "unet",
            bands=bands,
            outputs=2,
            args={**DECODER, "encoder": TIMM + name},
            chip_px=CHIP_PX,
        )


def tables(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of families and of what does not work, as Markdown."""
    import timm as package

    families: dict[str, Counter[str]] = defaultdict(Counter)
    problems: dict[str, list[str]] = defaultdict(list)
    for network in timm.networks().values():
        state = _state(results.get(network.name))
        families[package.model_entrypoint(network.name).__module__.rpartition(".")[2]][state] += 1
        if state == "fails":
            problems[str(results[network.name]["problem"])].append(network.name)
    total: Counter[str] = sum(families.values(), Counter())
    states = ("works", "fails", "too large", "not tried")
    lines = [f"| family | networks | {' | '.join(states)} |", "|---|" + "---:|" * (len(states) + 1)]
    for family, counts in [*sorted(families.items()), ("**all**", total)]:
        cells = " | ".join(str(counts[state] or "") for state in states)
        lines.append(f"| {family} | {counts.total()} | {cells} |")
    lines += ["", "| network | what fails |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {problem.replace('|', chr(92) + '|')} |" for problem, names in problems.items()]
    return "\n".join(lines)


def _state(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "not tried"
    if "skipped" in result:
        return "too large"
    return "fails" if result["problem"] else "works"


if __name__ == "__main__":
    os.environ.setdefault("RVBUILD_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
