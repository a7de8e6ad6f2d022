"""A cluster of processes on this machine: how busy its workers are, and what the loss of some costs.

Stages sleep, so that workers share the cores with the driver alone. They have begun before the time counts.

`python -m benchmarks.cluster WORKERS COUNT DIR [KILL_EVERY_S]` measures COUNT stages in DIR.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.bar import Figure
from benchmarks.command import in_child
from benchmarks.driver import Silent, plan_of

ROUNDS = 6
"""Stages of each worker."""

SECONDS = 5.0
KILL_EVERY_S = 20.0
WARM = "warm"
ROOT = Path(__file__).parent.parent

_PLACE = "cache/p/one"


def run(folder: Path) -> list[Figure]:
    figures = []
    for workers in (1, 2, 4, 8):
        count = workers * ROUNDS
        built = _built(folder / str(workers), workers, count)
        note = f"{count} stages of {SECONDS:.0f} s in {built['seconds']:.1f} s"
        figures.append(Figure(f"cluster, {workers} workers, efficiency", built["efficiency"], 0.9, "", False, note))
    count = 2 * 8 * ROUNDS
    lossy = _built(folder / "lossy", 8, count, KILL_EVERY_S)
    note = (
        f"{count} stages of {SECONDS:.0f} s in {lossy['seconds']:.1f} s, {lossy['kills']:.0f} workers killed, one "
        f"every {KILL_EVERY_S:.0f} s; {lossy['right']:.0f} files are right"
    )
    efficiency = lossy["efficiency"] if lossy["right"] == count else 0
    figures.append(Figure("cluster, 8 workers of which some are killed", efficiency, 0.6, "", False, note))
    return figures


def _built(folder: Path, workers: int, count: int, kill_every_s: float = 0) -> dict[str, float]:
    return in_child("benchmarks.cluster", str(workers), str(count), str(folder), str(kill_every_s))


def nap(inputs: Any, settings: Any, outputs: Path, progress: Any) -> None:
    """Sleep, and write what tells stages apart."""
    time.sleep(settings["seconds"])
    (outputs / "out.txt").write_text(settings["text"])


def build(workers: int, count: int, folder: Path, kill_every_s: float) -> dict[str, float]:
    """Build stages that sleep on workers of their own, and return what that took."""
    from rvbuild.engine.cluster.executor import Cluster
    from rvbuild.engine.run import doit
    from rvbuild.engine.run.execute import Builder

    artifacts = list(_artifacts(folder, workers, count))
    workspace, plan = plan_of(folder, artifacts)
    environment = {"PYTHONPATH": str(ROOT)}
    cache = folder / "cache"
    executor = Cluster(f"local:{workers}", environment, cache, cache / "store", (), None, lambda line: None)
    builder = Builder(plan, executor, Silent())
    ended, kills = threading.Event(), [0]
    try:
        names = {kind: [a.name for a in artifacts if a.scene.startswith(kind)] for kind in (WARM, "s")}
        doit.run(builder.to_do(names[WARM]), builder, executor.at_once(), keep_going=False)
        began = time.perf_counter()
        if kill_every_s:
            threading.Thread(target=_kill, args=(executor, kill_every_s, ended, kills), daemon=True).start()
        doit.run(builder.to_do(names["s"]), builder, executor.at_once(), keep_going=False)
        seconds = time.perf_counter() - began
    finally:
        ended.set()
        executor.close()
    workspace.close()
    right = sum(
        (folder / _PLACE / artifact.scene / "out.txt").read_text() == artifact.settings["text"]
        for artifact in artifacts
        if artifact.name in names["s"]
    )
    return {
        "seconds": seconds,
        "efficiency": count * SECONDS / workers / seconds,
        "kills": kills[0],
        "right": right,
    }


def _kill(executor: Any, every_s: float, ended: threading.Event, kills: list[int]) -> None:
    """Kill a worker now and then, each time another one."""
    while not ended.wait(every_s):
        pids = executor.link.client.run(os.getpid, on_error="return")
        alive = sorted(pid for pid in pids.values() if isinstance(pid, int))
        os.kill(alive[kills[0] % len(alive)], signal.SIGKILL)
        kills[0] += 1


def _artifacts(folder: Path, workers: int, count: int) -> Iterable[Any]:
    """Yield artifacts that need nothing but a small file; the first of each worker take no time."""
    from rvbuild.engine.keys.artifact import Artifact, Source

    (folder / "data").mkdir(parents=True)
    for number in range(-workers, count):
        scene = f"{WARM}{-number}" if number < 0 else f"s{number}"
        source = folder / "data" / f"{scene}.txt"
        source.write_text(scene)
        settings = {"seconds": 0.5 if number < 0 else SECONDS, "text": scene}
        yield Artifact(
            f"one:p:{scene}",
            "p",
            "one",
            scene,
            "benchmarks.cluster:nap",
            1,
            settings,
            (Source("image", (source,)),),
            f"{_PLACE}/{scene}",
        )


if __name__ == "__main__":
    print(json.dumps(build(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))))
