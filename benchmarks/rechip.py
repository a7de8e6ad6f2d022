"""One polygon edited among the labels of a huge scene, and what cutting its chips again takes, against all of it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bar import Cost, Figure, spent
from benchmarks.command import rvbuild, rvbuild_json
from benchmarks.scenes import write_raster

SIZE_PX, POLYGONS, EDITS = 20_000, 10_000, 3
PROJECT = "projects/bench.toml"


def run(folder: Path) -> list[Figure]:
    project, labels = write(folder, SIZE_PX, POLYGONS)
    full, full_process, full_cpu = _chip(folder, project)
    times = []
    for number in range(EDITS):
        edit(labels, number)
        # Nobody edits and builds within a second; a file that young is read twice.
        time.sleep(1.1)
        times.append(_chip(folder, project))
    differing = _differing(folder, project)
    seconds, process, cpu = sorted(times)[EDITS // 2]
    note = f"{seconds:.2f} against {full:.1f} s, whole processes {process:.1f} against {full_process:.1f} s"
    note += f"; {SIZE_PX} px square, {POLYGONS} polygons, 3 bands"
    return [
        Figure(
            "one polygon edited in a huge scene, time over a full chip",
            seconds / full,
            0.05,
            "",
            True,
            f"{note}; CPU of all of it {full_cpu:.1f} s",
            Cost("call", cpu),
        ),
        Figure("its files that differ from those of a full chip", differing, 0, "", True),
    ]


def _chip(folder: Path, project: str) -> tuple[float, float, float]:
    """Cut the chips; return the seconds of the artifact, of the whole process by the clock, and its CPU seconds."""
    outcome: dict[str, Any] = {}
    whole = spent(lambda: outcome.update(rvbuild_json("chip", project, cwd=folder)))
    return outcome["artifacts"][0]["seconds"], whole.wall, whole.cpu


def write(folder: Path, size_px: int, polygons: int) -> tuple[str, Path]:
    """Write a project of one scene, and return its path and that of the labels."""
    for name in ("projects", "data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Six bits of noise: it compresses by a quarter, as aerial imagery does.
    write_raster(folder / "data" / "a.tif", size_px, 3, 64, compress="deflate")
    labels = folder / "data" / "a.geojson"
    random = np.random.default_rng(0)
    features = [_feature(random, size_px) for _ in range(polygons)]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    labels.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    (folder / PROJECT).write_text(
        """
[project]
task = "semantic_segmentation"
[classes]
field = "#00aa00"
road = "#808080"
[scenes]
train = ["a"]
[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class = "road", background = "field" }
""",
    )
    return PROJECT, labels


def edit(labels: Path, number: int) -> None:
    """Move one polygon by a metre."""
    content = json.loads(labels.read_text())
    ring = content["features"][number]["geometry"]["coordinates"][0]
    content["features"][number]["geometry"]["coordinates"][0] = [[x + 1.0, y] for x, y in ring]
    labels.write_text(json.dumps(content))


def _feature(random: np.random.Generator, size_px: int) -> dict[str, Any]:
    row, col = random.uniform(0, size_px, 2)
    angles = np.sort(random.uniform(0, 2 * np.pi, 12))
    x = 500_000 + 0.1 * (col + 40 * np.cos(angles))
    y = 5_800_000 - 0.1 * (row + 40 * np.sin(angles))
    ring = np.stack([x, y], axis=1).tolist()
    return {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
    }


def _differing(folder: Path, project: str) -> int:
    """Return how many files of the chips differ from those that are cut from nothing."""
    chips = folder / "cache" / "bench" / "chip" / "a"
    kept = folder / "kept"
    shutil.move(chips, kept)
    shutil.rmtree(folder / "cache")
    rvbuild("chip", project, cwd=folder)
    names = {path.name for place in (chips, kept) for path in place.iterdir()}
    return sum(not _same(chips / name, kept / name) for name in names)


def _same(first: Path, second: Path) -> bool:
    return first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes()
