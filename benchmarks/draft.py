"""Drafts: one polygon edited, from the save to the model and to the map, and whether the result is exact."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import rasterio
from rasterio.features import rasterize

from benchmarks.bar import Figure
from benchmarks.command import rvbuild, rvbuild_json
from benchmarks.rechip import edit
from benchmarks.rechip import write as write_noise

SIZE_PX, POLYGONS, EDITS = 6000, 3000, 3
WATCHED_PX, WATCHED_POLYGONS = 1500, 300
CHAIN = ("sums", "head", "draft")
PATIENCE_S = 60


def run(folder: Path) -> list[Figure]:
    project, labels = write(folder / "large", SIZE_PX, POLYGONS)
    first = _draft(folder / "large", project)
    times = []
    for number in range(EDITS):
        edit(labels, number)
        # Nobody edits and builds within a second; a file that young is read twice.
        time.sleep(1.1)
        times.append(_draft(folder / "large", project))
    after = sorted(times, key=lambda each: sum(each[stage] for stage in CHAIN))[EDITS // 2]
    each = ", ".join(f"{stage} {after[stage]:.2f} s" for stage in CHAIN)
    note = f"{each}; {SIZE_PX} px square, {POLYGONS} polygons; features, once: {first['features']:.0f} s"
    differing = _differing(folder / "large", project)
    solved, mapped = _watched(folder / "small")
    return [
        Figure("draft: one polygon edited in a large scene", sum(after[s] for s in CHAIN), 2, "s", True, note),
        Figure("its files that differ from those of a clean build", differing, 0, "", True),
        Figure("watch draft: polygon saved to model solved", solved, 0.1, "s", True, f"{WATCHED_PX} px square"),
        Figure("watch draft: polygon saved to map written", mapped, 2, "s", True, f"{WATCHED_PX} px square"),
    ]


def write(folder: Path, size_px: int, polygons: int) -> tuple[str, Path]:
    """Write a project of one scene that is brighter in its polygons, and return its path and that of the labels."""
    project, labels = write_noise(folder, size_px, polygons)
    shapes = [feature["geometry"] for feature in json.loads(labels.read_text())["features"]]
    with rasterio.open(folder / "data/a.tif", "r+") as file:
        brighter = rasterize(shapes, out_shape=file.shape, transform=file.transform, default_value=60, dtype="uint8")
        for band in range(1, file.count + 1):
            file.write(file.read(band) + brighter, band)
    return project, labels


def _draft(folder: Path, project: str) -> dict[str, float]:
    """Draft in one process; return the seconds of each stage that was built."""
    report = rvbuild_json("draft", project, "--inline", cwd=folder)
    return {each["stage"]: each["seconds"] for each in report["artifacts"] if each["state"] == "built"}


def _differing(folder: Path, project: str) -> int:
    """Return how many files a draft from nothing makes differently."""
    made = folder / "cache" / "bench"
    kept = folder / "kept"
    shutil.copytree(made, kept)
    shutil.rmtree(folder / "cache")
    rvbuild("draft", project, "-q", cwd=folder)
    names = {path.relative_to(root) for root in (made, kept) for path in root.rglob("*") if path.is_file()}
    same = (
        (made / name).is_file() and (kept / name).is_file() and (made / name).read_bytes() == (kept / name).read_bytes()
        for name in names
    )
    return len(names) - sum(same)


def _watched(folder: Path) -> tuple[float, float]:
    """Return the seconds from a save to the model, and to the map, while `watch draft` runs."""
    project, labels = write(folder, WATCHED_PX, WATCHED_POLYGONS)
    # A map of classes may stay as it was; its scores do not.
    files = [folder / "cache/bench" / name for name in ("head/head.json", "draft/a/scores.tif")]
    command = [sys.executable, "-m", "rvbuild", "watch", "draft", project]
    times: list[tuple[float, float]] = []
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            for number in range(EDITS + 1):
                assert process.stderr is not None
                while not process.stderr.readline().startswith("watching;"):
                    pass
                time.sleep(1.1)
                before = [file.stat().st_mtime_ns for file in files]
                edit(labels, number)
                start = time.perf_counter()
                solved, mapped = (_until_written(*each, start) for each in zip(files, before, strict=True))
                times.append((solved, mapped))
        finally:
            process.terminate()
    solved, mapped = sorted(times[1:], key=lambda pair: pair[1])[EDITS // 2]
    return solved, mapped


def _until_written(file: Path, before: int, start: float) -> float:
    while not file.exists() or file.stat().st_mtime_ns == before:
        if time.perf_counter() - start > PATIENCE_S:
            raise TimeoutError(f"{file} was not written")
        time.sleep(0.002)
    return time.perf_counter() - start
