"""10 000 scenes: nothing to do with the seal and without, one label edited, and the memory of the parent process.

The graph is that of a real project up to the model: statistics and chips of each scene, one training on all of them.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bar import Cost, Figure, cpu
from benchmarks.command import ENVIRONMENT, RVBUILD
from benchmarks.scenes import write_project, write_raster

SCENES = 10_000
REPETITIONS = 5


def run(folder: Path) -> list[Figure]:
    project = str(write_project(folder, SCENES, 32, validation=SCENES // 8).relative_to(folder))
    first = _call(folder, "train", project, "-q")
    files = sum(1 for path in folder.rglob("*") if path.is_file() and "store" not in path.parts)
    sealed = [_call(folder, "train", project) for _ in range(REPETITIONS)]
    unsealed = []
    for _ in range(REPETITIONS):
        shutil.rmtree(folder / "cache" / "seals")
        unsealed.append(_call(folder, "train", project))
    write_raster(folder / "data" / f"s{SCENES - 1:04}_label.tif", 32, 1, 2, seed=SCENES + 1)
    chip, train = _edited(folder, "chip", project), _edited(folder, "train", project)
    peak = max(first, chip.call, train.call, *unsealed, key=lambda call: call.peak_mb)
    built = f"built in {first.seconds:.0f} s"
    return [
        _middle(f"nothing to do, {SCENES} scenes, sealed", sealed, 0.5, f"{files} files; {built}"),
        _middle(f"nothing to do, {SCENES} scenes, seal removed", unsealed, 3.0, f"{files} files"),
        Figure(
            "one label edit among them, `rvbuild chip`",
            chip.overhead,
            3.0,
            "s",
            True,
            chip.note,
            Cost("call", chip.call.cpu),
        ),
        Figure(
            "the same edit, then `rvbuild train`",
            train.overhead,
            3.0,
            "s",
            True,
            train.note,
            Cost("call", train.call.cpu),
        ),
        Figure("memory of the parent process", peak.peak_mb, 400, "MB", True, f"{SCENES} scenes, {built}"),
    ]


@dataclass(frozen=True)
class _Call:
    """A finished process: what it printed, how long it took, peak resident memory without its workers', CPU seconds."""

    out: str
    seconds: float
    peak_mb: float
    cpu: float


@dataclass(frozen=True)
class _Edit:
    call: _Call
    overhead: float
    note: str


def _call(folder: Path, *words: str) -> _Call:
    began, before = time.perf_counter(), cpu()
    peak_mb = 0.0
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen([RVBUILD, *words], cwd=folder, env=ENVIRONMENT, stdout=printed)
        while process.poll() is None:
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        printed.seek(0)
        out = printed.read()
    if process.returncode:
        raise RuntimeError(f"rvbuild {' '.join(words)}: exit status {process.returncode}\n{out}")
    return _Call(out, seconds, peak_mb, cpu() - before)


def _peak_mb(process: int) -> float:
    """Return the peak of a process that lives; what the system says at its end counts those that it waited for."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
    return float(lines[0][1]) / 1024 if lines else 0.0


def _middle(title: str, calls: list[_Call], bar: float, note: str) -> Figure:
    times = [call.seconds for call in calls]
    note = f"median of {len(times)}, fastest {min(times):.2f} s; {note}"
    cost = Cost("call", statistics.median(call.cpu for call in calls))
    return Figure(title, statistics.median(times), bar, "s", True, note, cost)


def _edited(folder: Path, stage: str, project: str) -> _Edit:
    """Build after the edit: the time beside that of the stages that ran."""
    before = _log(folder)
    call = _call(folder, stage, project)
    built = [entry for entry in _log(folder) if entry["state"] == "built" and entry not in before]
    ran = sum(entry["seconds"] for entry in built)
    names = ", ".join(entry["stage"] + (f":{entry['scene']}" if entry["scene"] else "") for entry in built)
    return _Edit(call, call.seconds - ran, f"besides the {ran:.1f} s of {names}")


def _log(folder: Path) -> list[dict[str, Any]]:
    """Return what was done last, as `rvbuild log` has it, without what changes as more is done."""
    entries: list[dict[str, Any]] = json.loads(_call(folder, "log", "-n", "50", "--json").out)["log"]
    return [{name: value for name, value in entry.items() if name != "version"} for entry in entries]
