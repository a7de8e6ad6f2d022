"""Hashing new inputs that are in the page cache, against `cat` of the same files to nowhere."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.bar import Cost, Figure, cpu_seconds, interleaved
from rvbuild.checks.resources import memory_bytes
from rvbuild.engine.store.fingerprint import Fingerprints
from rvbuild.engine.store.state import State

FILES, FILE_MB = 50, 200
REPETITIONS = 5
ONE_MB = 1000


def run(folder: Path) -> list[Figure]:
    folder.mkdir()
    many = [_write(folder / f"{number}.bin", FILE_MB) for number in range(_files())]
    single = _write(folder / "one.bin", ONE_MB)
    return [_against_cat(folder, many, 0.6), _against_cat(folder, [single], 0.4)]


def _files() -> int:
    """Return how many files fit into half of the memory, so that they stay there."""
    return max(1, min(FILES, (memory_bytes() or 1 << 33) // 2 // (FILE_MB << 20)))


def _write(path: Path, size_mb: int) -> Path:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size_mb):
            file.write(block)
    return path


def _against_cat(folder: Path, files: list[Path], bar: float) -> Figure:
    def cat() -> float:
        with Path(os.devnull).open("wb") as nowhere:
            return cpu_seconds(lambda: subprocess.run(["cat", *map(str, files)], stdout=nowhere, check=True))

    def hashed() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as new:
            prints = Fingerprints(State(Path(new) / "state.db"))
            return cpu_seconds(lambda: prints.prefetch(files))

    reading, hashing = interleaved(REPETITIONS, cat, hashed)
    size = sum(file.stat().st_size for file in files)
    title = f"hashing {len(files)} file{'s' if len(files) > 1 else ''}, {size / 1e9:.1f} GB in the page cache, by `cat`"
    note = f"{size / hashing / 1e9:.1f} GB/s against {size / reading / 1e9:.1f}"
    cost = Cost("GB", hashing / size * 1e9, reading / size * 1e9)
    return Figure(title, reading / hashing, bar, "", False, note, cost)
