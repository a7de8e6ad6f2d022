"""A run with nothing to do, as a whole process: 24 scenes built to the end, and 1 000 scenes up to the model."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bar import Cost, Figure, median, spent
from benchmarks.command import rvbuild
from benchmarks.scenes import write_project

REPETITIONS = 10


def run(folder: Path) -> list[Figure]:
    return [
        _measure(folder / "24", scenes=24, command="build", bar=0.15),
        _measure(folder / "1000", scenes=1000, command="train", bar=0.30),
    ]


def _measure(folder: Path, *, scenes: int, command: str, bar: float) -> Figure:
    project = write_project(folder, scenes, 32, validation=max(1, scenes // 8))
    arguments = (command, str(project.relative_to(folder)))
    rvbuild(*arguments, cwd=folder)
    times = [spent(lambda: rvbuild(*arguments, cwd=folder)) for _ in range(REPETITIONS)]
    note = f"`rvbuild {command}`, median of {REPETITIONS}; fastest {min(times).wall:.3f} s"
    wall, cpu = median(times)
    return Figure(f"nothing to do, {scenes} scenes", wall, bar, "s", True, note, Cost("call", cpu))
