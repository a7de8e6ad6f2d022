"""Drafts while they are watched: from the save of a polygon to the model, and to the map of the edited scene.

On the demo if its data are in `data/` of the checkout (`make data`), or else on noise. Beside the time on the clock
stands that of the processor until the model is written, which other programs on the machine change less.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.bar import Cost, Figure, cpu_of
from benchmarks.command import rvbuild
from benchmarks.draft import write

EDITS = 20
NOISE_PX, NOISE_POLYGONS = 1500, 300
PATIENCE_S = 60
CHECKOUT = Path(__file__).parents[1]
DEMO = "projects/yellowstone_crowns.toml"
WEST_PX = 1600
"""Polygons of the demo whose columns are less are in a training scene."""


class Times(NamedTuple):
    """The seconds after the save of one edit."""

    model: float
    map: float
    model_cpu: float
    """Of the watching process until the model."""


class Workspace(NamedTuple):
    """A project, the labels that are edited, and what an edit writes."""

    folder: Path
    project: str
    labels: Path
    model: Path
    map: Path
    """The scores of the edited scene: a map of classes may stay as it was."""
    what: str


def run(folder: Path) -> list[Figure]:
    workspace = _demo(folder) if (CHECKOUT / "data/yellowstone").is_dir() else _noise(folder)
    rvbuild("draft", workspace.project, "-q", cwd=workspace.folder)
    times = []
    with _watched(workspace) as until_it_waits:
        for number in range(EDITS + 1):
            until_it_waits()
            # Nobody edits twice within a second.
            time.sleep(1.1)
            times.append(_edited(workspace, number))
    del times[0]  # the first runs in workers
    cost = Cost("model", statistics.median(each.model_cpu for each in times))
    return [
        _figure("model solved", [each.model for each in times], 0.1, workspace.what, cost),
        _figure("map of the scene written", [each.map for each in times], 2, workspace.what),
        _figure("model solved, time of the processor", [each.model_cpu for each in times], 0.1, workspace.what),
    ]


def _figure(title: str, seconds: list[float], bar: float, what: str, cost: Cost | None = None) -> Figure:
    note = f"median of {len(seconds)} edits, worst {max(seconds):.3f} s; {what}"
    return Figure(f"watch draft: polygon saved to {title}", statistics.median(seconds), bar, "s", True, note, cost)


def _demo(folder: Path) -> Workspace:
    (folder / "projects").mkdir(parents=True)
    shutil.copy(CHECKOUT / DEMO, folder / DEMO)
    for name in ("yellowstone", "encoders"):
        shutil.copytree(CHECKOUT / "data" / name, folder / "data" / name)
    made, labels = folder / "cache/yellowstone_crowns", folder / "data/yellowstone/528_crowns.geojson"
    model, scores = made / "head/head.json", made / "draft/528_west/scores.tif"
    return Workspace(folder, DEMO, labels, model, scores, "the crowns of the demo")


def _noise(folder: Path) -> Workspace:
    project, labels = write(folder, NOISE_PX, NOISE_POLYGONS)
    made = folder / "cache/bench"
    model, scores = made / "head/head.json", made / "draft/a/scores.tif"
    return Workspace(folder, project, labels, model, scores, f"noise, {NOISE_PX} px square, {NOISE_POLYGONS} polygons")


@contextmanager
def _watched(workspace: Workspace) -> Iterator[Callable[[], None]]:
    """Run `watch draft`; give what returns as soon as it waits for a save."""
    command = [sys.executable, "-m", "rvbuild", "watch", "draft", workspace.project]
    with subprocess.Popen(
        command, cwd=workspace.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        workspace.folder.joinpath("pid").write_text(str(process.pid))
        assert process.stderr is not None
        lines = process.stderr

        def until_it_waits() -> None:
            while not (line := lines.readline()).startswith("watching;"):
                if not line:
                    raise RuntimeError(f"watch draft ended with status {process.wait()}")

        try:
            yield until_it_waits
        finally:
            process.terminate()


def _edited(workspace: Workspace, number: int) -> Times:
    """Move a polygon, and return the times until the model and the map are written."""
    content = json.loads(workspace.labels.read_text())
    rings = [feature["geometry"]["coordinates"] for feature in content["features"]]
    if workspace.project == DEMO:
        rings = [ring for ring in rings if max(x for x, _ in ring[0]) < WEST_PX]
    rings[number][0] = [[x + 1.0, y] for x, y in rings[number][0]]
    text = json.dumps(content)
    pid = int(workspace.folder.joinpath("pid").read_text())
    before, cpu = [_changed_at(path) for path in (workspace.model, workspace.map)], cpu_of(pid)
    start = time.perf_counter()
    workspace.labels.write_text(text)
    model = _until_written(workspace.model, before[0], start)
    model_cpu = cpu_of(pid) - cpu
    return Times(model, _until_written(workspace.map, before[1], start), model_cpu)


def _changed_at(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _until_written(path: Path, before: int | None, start: float) -> float:
    while _changed_at(path) in (None, before):
        if time.perf_counter() - start > PATIENCE_S:
            raise TimeoutError(f"{path} was not written")
        time.sleep(0.001)
    return time.perf_counter() - start
