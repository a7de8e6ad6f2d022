"""One huge scene: in strips on two workers, one of which is killed, beside one pass over it: bytes and memory.

By default it is small. `python -m benchmarks.huge --side 40000` takes as long as the network; `--width` and `--height`
make another shape, `--model` names another network, `--alone` leaves out the pass to compare with.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from benchmarks.bar import Figure, table
from benchmarks.command import ENVIRONMENT, RVBUILD, rvbuild

SIDE, TRAIN_PX, CHIP_PX = 2500, 1024, 256
STRIPS = 10
MOST_MB = 1500
_BLOCK_PX, _TILE_PX, _LEVELS = 2048, 256, 4
_EVERY_S = 0.5


@dataclass(frozen=True)
class Case:
    """What is predicted, by what."""

    height: int = SIDE
    width: int = SIDE
    model: str = 'model = "unet"\nmodel_args = { width = 2, depth = 2 }'
    chip_px: int = CHIP_PX
    stride_px: int = CHIP_PX * 7 // 8
    alone: bool = False


def run(folder: Path, case: Case = Case()) -> list[Figure]:
    root = folder / "strips"
    _write_workspace(root, case)
    rvbuild("train", cwd=root)
    other = folder / "once"
    if not case.alone:
        shutil.copytree(root, other, copy_function=os.link, symlinks=True, ignore=shutil.ignore_patterns("cache"))
        shutil.copytree(root / "cache", other / "cache", symlinks=True)
    strips_s, strips_mb = _watched(root, "predict", "eval", "--on", "local:2", meanwhile=_kill_a_worker)
    size = f"{case.width} x {case.height} px"
    figures = [
        Figure("huge scene in strips, largest process", strips_mb.largest, MOST_MB, "MB", True, size),
        Figure(
            "huge scene in strips, all processes",
            strips_mb.together,
            3 * MOST_MB,
            "MB",
            True,
            f"{size}, 2 workers, one killed, {strips_s:.0f} s; shared pages count once",
        ),
    ]
    if case.alone:
        return figures
    project = other / "projects/huge.toml"
    text = project.read_text()
    project.unlink()  # it is a link to that of the other workspace
    project.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("strip_px")))
    once_s, once_mb = _watched(other, "predict", "eval")
    ours, theirs = (_digests(place / "cache/huge") for place in (root, other))
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    note = f"{size}; {', '.join(differing)}" if differing else f"of {len(ours)}; {size}, one worker killed"
    figures += [
        Figure("huge scene in strips, files that differ from one pass", len(differing), 0, "files", True, note),
        Figure("huge scene at once, largest process", once_mb.largest, MOST_MB, "MB", True, f"{size}, {once_s:.0f} s"),
    ]
    return figures


def _write_workspace(root: Path, case: Case) -> None:
    (root / "projects").mkdir(parents=True)
    (root / "data").mkdir()
    for name, height, width in (("small", TRAIN_PX, TRAIN_PX), ("huge", case.height, case.width)):
        _write(root / f"data/{name}.tif", height, width, 3)
        _write(root / f"data/{name}_label.tif", height, width, 1)
    strip_px = -(-case.height * case.width // STRIPS)
    (root / "projects/huge.toml").write_text(
        f"""
[project]
task = "semantic_segmentation"
[classes]
field = "#00aa00"
road = "#808080"
water = "#0000aa"
[scenes]
train = ["small"]
test = ["huge"]
[scene]
image = "data/{{id}}.tif"
labels = {{ raster = "data/{{id}}_label.tif", encoding = "id" }}
[chip]
size_px = {case.chip_px}
[train]
{case.model}
pretrained = false
epochs = 1
batch_size = 8
[predict]
stride_px = {case.stride_px}
blend = "{"mean" if case.stride_px < case.chip_px else "none"}"
strip_px = {strip_px}
"""
    )


def _write(path: Path, height: int, width: int, bands: int) -> None:
    """Write a raster that repeats a random block, each time moved: of images noise of few levels, of labels patches."""
    rng = np.random.default_rng(0)
    if bands == 1:
        patches = rng.integers(0, 3, (1, _BLOCK_PX // 64, _BLOCK_PX // 64), np.uint8)
        block = patches.repeat(64, axis=1).repeat(64, axis=2)
    else:
        block = rng.integers(0, _LEVELS, (bands, _BLOCK_PX, _BLOCK_PX), np.uint8) * np.uint8(256 // _LEVELS)
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": bands,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": Affine(0.1, 0, 500000, 0, -0.1, 5800000),
        "photometric": "minisblack",
        "alpha": "unspecified",
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
        "tiled": True,
        "blockxsize": _TILE_PX,
        "blockysize": _TILE_PX,
    }
    with rasterio.Env(GDAL_CACHEMAX=64 << 20), rasterio.open(path, "w", **profile) as file:
        for row in range(0, height, _TILE_PX):
            rows = min(_TILE_PX, height - row)
            of_block = np.roll(block, (-row % _BLOCK_PX, row // 7), axis=(1, 2))[:, :rows]
            for col in range(0, width, _BLOCK_PX):
                cols = min(_BLOCK_PX, width - col)
                file.write(np.roll(of_block, col // 3, axis=2)[:, :, :cols], window=Window(col, row, cols, rows))


@dataclass
class _Memory:
    """Of a run, in MB."""

    together: float = 0.0
    """The most that all processes had at a time; pages that several share count once."""
    largest: float = 0.0
    """The most that one process had."""
    _peaks: dict[int, int] = field(default_factory=dict)

    def look(self, pids: list[int]) -> None:
        together = 0
        for pid in pids:
            with contextlib.suppress(OSError, KeyError):
                together += _figures_of(pid, "smaps_rollup")["Pss"]
                self.largest = max(self.largest, _figures_of(pid, "status")["VmHWM"] / 1024)
        self.together = max(self.together, together / 1024)


def _figures_of(pid: int, name: str) -> dict[str, int]:
    """Return the figures in kB of a file in /proc."""
    lines = (line.split() for line in Path(f"/proc/{pid}/{name}").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}


def _watched(root: Path, *words: str, meanwhile: Callable[[Path, int], None] | None = None) -> tuple[float, _Memory]:
    """Run commands that build, as one, and return the seconds and the memory that they took."""
    memory, start = _Memory(), time.perf_counter()
    commands = [word for word in words if word in {"predict", "eval"}]
    options = [word for word in words if word not in commands]
    for number, command in enumerate(commands):
        process = subprocess.Popen([RVBUILD, command, "-q", *options], cwd=root, env=ENVIRONMENT)
        if meanwhile is not None and number == 0:
            threading.Thread(target=meanwhile, args=(root, process.pid), daemon=True).start()
        while process.poll() is None:
            memory.look([process.pid, *_descendants(process.pid)])
            time.sleep(_EVERY_S)
        if process.returncode:
            raise RuntimeError(f"rvbuild {command}: exit status {process.returncode}")
    return time.perf_counter() - start, memory


def _kill_a_worker(root: Path, driver: int) -> None:
    """Kill a worker of the cluster when the first strips are finished, while it works on another one."""
    while len(list(root.glob("cache/huge/strips/huge/*"))) < 2:
        time.sleep(0.1)
    for pid in _descendants(driver):
        with contextlib.suppress(OSError):
            if b"cluster.host" in Path(f"/proc/{pid}/cmdline").read_bytes():
                worker = _parents()[pid]
                print(f"  killed worker {worker}", file=sys.stderr, flush=True)
                os.kill(worker, signal.SIGKILL)
                return
    raise RuntimeError("no worker to kill")


def _parents() -> dict[int, int]:
    """Return the parent of each process."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)

    def below(parent: int) -> Iterator[int]:
        for child in children.get(parent, []):
            yield child
            yield from below(child)

    return list(below(pid))


def _digests(folder: Path) -> dict[str, str]:
    """Return the digests of all results of a project but its strips."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("strips/"):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "blake2b").hexdigest()
    return digests


def _main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.huge", description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=SIDE, metavar="PX", help=f"of the scene ({SIDE})")
    parser.add_argument("--width", type=int, metavar="PX", help="of the scene, if it is no square")
    parser.add_argument("--height", type=int, metavar="PX", help="of the scene, if it is no square")
    parser.add_argument("--model", help="a network of torchvision, in place of the smallest U-Net")
    parser.add_argument("--chip", type=int, default=CHIP_PX, metavar="PX", help=f"of windows ({CHIP_PX})")
    parser.add_argument("--stride", type=int, metavar="PX", help="of windows (7/8 of their size)")
    parser.add_argument("--alone", action="store_true", help="without one pass to compare with")
    parser.add_argument("--folder", type=Path, help="an empty directory to work in (a temporary one)")
    arguments = parser.parse_args(words)
    case = Case(
        arguments.height or arguments.side,
        arguments.width or arguments.side,
        Case.model if arguments.model is None else f'model = "{arguments.model}"',
        arguments.chip,
        arguments.stride or arguments.chip * 7 // 8,
        arguments.alone,
    )
    with tempfile.TemporaryDirectory(prefix="rvbuild-bench-huge-") as folder:
        figures = run(arguments.folder or Path(folder), case)
    print(table(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
