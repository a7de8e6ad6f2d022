"""The first `status` by a wheel of what the checkout has built: all is fresh, and all code is digested anew."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import click

from benchmarks.bar import Cost, Figure, median, spent
from benchmarks.command import ENVIRONMENT, rvbuild
from benchmarks.scenes import write_project

ROOT = Path(__file__).parent.parent
REPETITIONS = 5


def run(folder: Path) -> list[Figure]:
    project = write_project(folder / "workspace", 24, 32, validation=3)
    workspace, words = project.parents[1], str(project.relative_to(project.parents[1]))
    rvbuild("build", words, cwd=workspace)
    command = _install(folder)
    times = []
    for turn in range(REPETITIONS):
        copy = folder / f"copy-{turn}"
        subprocess.run(["cp", "-a", workspace, copy], check=True)
        printed: list[str] = []
        times.append(spent(lambda copy=copy, printed=printed: printed.append(_status(command, copy, words))))
        states = {artifact["state"] for artifact in json.loads(printed[0])["artifacts"]}
        if states != {"fresh"}:
            raise RuntimeError(f"the wheel finds {states} in what the checkout has built")
    note = f"a venv with the wheel alone, 24 scenes, median of {REPETITIONS}; slowest {max(times).wall:.2f} s"
    wall, cpu = median(times)
    return [Figure("first status by a wheel", wall, 2.0, "s", True, note, Cost("call", cpu))]


def _install(folder: Path) -> Path:
    """Install the wheel of this checkout into a new environment that sees this one's other packages."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    (wheel,) = folder.glob("rvbuild-*.whl")
    install = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        "--prefix",
        str(environment),
        str(wheel),
    ]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return environment / "bin"


def _status(binaries: Path, workspace: Path, words: str) -> str:
    command = [binaries / "python", "-P", "-m", "rvbuild", "status", words, "--json"]
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
