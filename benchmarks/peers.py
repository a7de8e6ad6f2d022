"""Other build tools on the same graph: nothing to do, and one label edited, beside rvbuild's figures of `scale`.

For each scene statistics from its image, and chips from its image and labels; then one model from all of them. The
other tools get stages that only write a line, so that what is measured is the tool. A tool that is not on PATH is said
to be missing. The slow ones get fewer scenes, more and more until a first build takes minutes: what they would take
for thousands follows from how that grows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bar import Cost, Figure, Spent, median, spent

REPETITIONS = 3
PATIENCE_S = 120


@dataclass(frozen=True)
class Peer:
    """A build tool: the program, how its build file is written, how it is called, and for how many scenes."""

    program: str
    write: Callable[[Path, list[str]], None]
    words: tuple[str, ...]
    scenes: tuple[int, ...] = (10_000,)
    first: tuple[str, ...] | None = None  # how the first build is called, if otherwise


def run(folder: Path) -> Iterator[Figure]:
    for peer in PEERS:
        yield from _sizes(folder / peer.program, peer)


def _sizes(folder: Path, peer: Peer) -> Iterator[Figure]:
    path = shutil.which(peer.program)
    if path is None:
        yield Figure(f"{peer.program}: nothing to do", float("inf"), float("inf"), "s", True, "not installed")
        return
    for count in peer.scenes:
        began = time.perf_counter()
        yield from _measure(folder / str(count), peer, path, count)
        if time.perf_counter() - began > PATIENCE_S:
            return


def _measure(folder: Path, peer: Peer, path: str, count: int) -> Iterator[Figure]:
    title = f"{peer.program}, {count} scenes"
    scenes = [f"s{number:05}" for number in range(count)]
    (folder / "data").mkdir(parents=True)
    (folder / "out").mkdir()
    for scene in scenes:
        (folder / "data" / f"{scene}.tif").write_text(f"image {scene}\n" * 200)
        (folder / "data" / f"{scene}_label.tif").write_text(f"labels {scene}\n" * 200)
    peer.write(folder, scenes)

    def call(words: tuple[str, ...]) -> Spent:
        def go() -> None:
            environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
            done = subprocess.run([path, *words], cwd=folder, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise RuntimeError(f"{path} {' '.join(words)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

        return spent(go)

    first = call(peer.first or peer.words)
    call(peer.words)
    idle = median(call(peer.words) for _ in range(REPETITIONS))
    note = f"for comparison; `{' '.join((peer.program, *peer.words))}`, first build {first.wall:.0f} s"
    yield Figure(f"{title}: nothing to do", idle.wall, float("inf"), "s", True, note, Cost("call", idle.cpu))
    with (folder / "data" / f"{scenes[-1]}_label.tif").open("a") as file:
        file.write("another polygon\n")
    edited = "for comparison; the commands that run take nothing"
    once = call(peer.words)
    yield Figure(f"{title}: one label edited", once.wall, float("inf"), "s", True, edited, Cost("call", once.cpu))


def _rules(scenes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield (output, inputs) of every artifact."""
    for scene in scenes:
        yield f"out/{scene}.stats", [f"data/{scene}.tif"]
        yield f"out/{scene}.chip", [f"data/{scene}.tif", f"data/{scene}_label.tif"]
    yield "out/model", [f"out/{scene}.{kind}" for scene in scenes for kind in ("stats", "chip")]


def _write_make(folder: Path, scenes: list[str]) -> None:
    lines = ["out/model:"]
    for output, inputs in _rules(scenes):
        lines += [f"{output}: {' '.join(inputs)}", "\t@echo $(words $^) > $@"]
    (folder / "Makefile").write_text("\n".join(lines) + "\n")


def _write_ninja(folder: Path, scenes: list[str]) -> None:
    lines = ["rule r", "  command = echo done > $out"]
    lines += [f"build {output}: r {' '.join(inputs)}" for output, inputs in _rules(scenes)]
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")


def _write_doit(folder: Path, scenes: list[str]) -> None:
    (folder / "rules.json").write_text(json.dumps(list(_rules(scenes))))
    (folder / "dodo.py").write_text(
        """
import json
from pathlib import Path

DOIT_CONFIG = {"backend": "sqlite3", "verbosity": 0}


def write(targets):
    Path(targets[0]).write_text("done")


def task_build():
    for output, inputs in json.loads(Path("rules.json").read_text()):
        yield {"name": output, "file_dep": inputs, "targets": [output], "actions": [write]}
"""
    )


def _write_dvc(folder: Path, scenes: list[str]) -> None:
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([shutil.which("dvc") or "dvc", "init", "-q"], cwd=folder, check=True)
    lines = ["stages:"]
    for number, (output, inputs) in enumerate(_rules(scenes)):
        lines += [f"  r{number}:", f"    cmd: echo done > {output}", "    deps:", *(f"    - {name}" for name in inputs)]
        lines += ["    outs:", f"    - {output}"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")


def _write_snakemake(folder: Path, scenes: list[str]) -> None:
    (folder / "scenes.json").write_text(json.dumps(scenes))
    (folder / "Snakefile").write_text(
        """
import json

SCENES = json.load(open("scenes.json"))

rule model:
    input: expand("out/{s}.stats", s=SCENES), expand("out/{s}.chip", s=SCENES)
    output: "out/model"
    shell: "echo done > {output}"

rule stats:
    input: "data/{s}.tif"
    output: "out/{s}.stats"
    shell: "echo done > {output}"

rule chip:
    input: "data/{s}.tif", "data/{s}_label.tif"
    output: "out/{s}.chip"
    shell: "echo done > {output}"
"""
    )


PEERS = (
    Peer("ninja", _write_ninja, ()),
    Peer("make", _write_make, ("-s", "-j2")),
    Peer("doit", _write_doit, ("run",)),
    Peer("snakemake", _write_snakemake, ("-q", "all", "--cores", "2"), scenes=(50, 200, 800)),
    Peer("dvc", _write_dvc, ("repro", "-q"), scenes=(50, 200, 800)),
)
