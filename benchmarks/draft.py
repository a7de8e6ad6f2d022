"""Drafts: one polygon edited in a large scene, and whether the result is exact. See also `watch_draft`."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import rasterio
from rasterio.features import rasterize

from benchmarks.bar import Cost, Figure, cpu
from benchmarks.command import rvbuild, rvbuild_json
from benchmarks.rechip import edit
from benchmarks.rechip import write as write_noise

SIZE_PX, POLYGONS, EDITS = 6000, 3000, 3
CHAIN = ("sums", "head", "draft")


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
    cost = Cost("call", after["cpu"])
    return [
        Figure("draft: one polygon edited in a large scene", sum(after[s] for s in CHAIN), 2, "s", True, note, cost),
        Figure("its files that differ from those of a clean build", differing, 0, "", True),
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
    """Draft in one process; return the seconds of each stage that was built, and the CPU seconds of the process."""
    before = cpu()
    report = rvbuild_json("draft", project, "--inline", cwd=folder)
    built = {each["stage"]: each["seconds"] for each in report["artifacts"] if each["state"] == "built"}
    return {**built, "cpu": cpu() - before}


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
