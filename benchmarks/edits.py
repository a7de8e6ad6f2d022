"""A label edit in one of 24 scenes, its reversal, and a training that is killed: what runs, and how long it takes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.bar import Cost, Figure, spent
from benchmarks.command import RVBUILD, rvbuild, rvbuild_json
from benchmarks.scenes import write_project, write_raster

SCENES = 24


def run(folder: Path) -> list[Figure]:
    return [*_edit(folder / "edit"), _kill(folder / "kill")]


def _edit(folder: Path) -> list[Figure]:
    project = str(write_project(folder, SCENES, 32, validation=3).relative_to(folder))
    rvbuild("build", project, cwd=folder)
    labels = folder / "data" / f"s{SCENES - 1:04}_label.tif"
    before = labels.read_bytes()

    write_raster(labels, 32, 1, 2, seed=1000)
    built = [item for item in rvbuild_json("build", project, cwd=folder)["artifacts"] if item["state"] == "built"]
    early = [item for item in built if item["stage"] in {"analyze", "chip"}]

    labels.write_bytes(before)
    outcome: dict[str, list[dict[str, str]]] = {}

    def revert() -> None:
        outcome.update(rvbuild_json("build", project, cwd=folder))

    wall, cpu = spent(revert)
    states = [item["state"] for item in outcome["artifacts"]]
    names = ", ".join(f"{item['stage']}:{item['scene']}" for item in early)
    note = f"{states.count('restored')} artifacts restored"
    return [
        Figure(
            f"label edit in one of {SCENES} scenes: artifacts that run before train", len(early), 1, "", True, names
        ),
        Figure("revert that edit: artifacts that run", states.count("built"), 0, "", True, note),
        Figure("revert that edit: whole process", wall, 1.0, "s", True, note, Cost("call", cpu)),
    ]


def _kill(folder: Path) -> Figure:
    """Kill a training in the middle, run it again, and compare the model with that of an undisturbed training."""
    longer = ("--set", "train.epochs=12", "--set", "train.augment=['flip']")
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    project = str(write_project(undisturbed, 6, 128, validation=1).relative_to(undisturbed))
    shutil.copytree(undisturbed, killed)
    rvbuild("train", project, *longer, cwd=undisturbed)

    process = subprocess.Popen(
        [RVBUILD, "train", project, *longer],
        cwd=killed,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not _checkpoints(killed):
        time.sleep(0.01)
    killed_in_the_middle = process.poll() is None
    if killed_in_the_middle:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    rvbuild("train", project, *longer, cwd=killed)

    name = Path("cache", "bench", "train", "model.safetensors")
    equal = (undisturbed / name).read_bytes() == (killed / name).read_bytes()
    epochs = len((killed / name).with_name("log.jsonl").read_text().splitlines())
    note = f"killed {'in the middle' if killed_in_the_middle else 'too late'}; {epochs} epochs in the log"
    return Figure("kill -9 in training, run again: models that differ", 1 - int(equal), 0, "", True, note)


def _checkpoints(workspace: Path) -> list[Path]:
    resume = workspace / "cache" / "store" / "resume"
    return [path for path in resume.rglob("*") if path.is_file()] if resume.is_dir() else []
