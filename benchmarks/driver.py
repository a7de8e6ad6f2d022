"""The driver: what a build costs beside the work of its stages, for artifacts that take no time, and its first plan.

Half of the artifacts read a file of the user, the other half the output of one of these. An executor in this process
writes 1 kB for each; what the process of a stage does, hashing and copying included, is counted apart. A bare loop
writes as many files with as many bytes: it makes each durable, and renames it.

`python -m benchmarks.driver 10000 64 DIR` measures 10 000 artifacts, 64 jobs at a time, in DIR.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bar import Cost, Figure
from benchmarks.command import in_child, peak_rss_mb
from benchmarks.scenes import write_project

ARTIFACTS = 1_000
JOBS = 8
SCENES = 10_000
OUTPUT_BYTES = 1_000
_SETTINGS: dict[str, object] = {
    "classes": [{"name": name, "id": number, "color": [number, 0, 0]} for number, name in enumerate(("a", "b", "c"))],
    "chip": {"size_px": 256, "stride_px": 256, "min_labeled": 0.1, "store": True, "blocks": 8},
    "image": {"bands": [1, 2, 3], "scale": 1.0, "offset": 0.0, "nodata": None},
}


def run(folder: Path) -> list[Figure]:
    built = in_child("benchmarks.driver", str(ARTIFACTS), str(JOBS), str(folder))
    clock, bare_clock = (1000 * built[name] / ARTIFACTS for name in ("seconds", "bare_seconds"))
    note = (
        f"{ARTIFACTS} artifacts, {JOBS} jobs, {clock:.1f} ms by the clock; the side of the stages: "
        f"{built['node_cpu_ms']:.2f} ms; a bare loop that writes, syncs and renames the files: "
        f"{built['bare_cpu_ms']:.2f} ms, {bare_clock:.1f} ms by the clock"
    )
    plan = _plan(folder / "plan")
    scenes = (
        f"{SCENES} scenes up to the model, {plan['artifacts']:.0f} artifacts, no file has changed since it was hashed"
    )
    cost = Cost("artifact", built["cpu_ms"] / 1000, built["bare_cpu_ms"] / 1000)
    of_plan = Cost("plan", plan["cpu_s"])
    return [
        Figure("driver: processor per artifact", built["cpu_ms"], 2, "ms", True, note, cost),
        Figure("driver: first plan", plan["cpu_s"], 3, "s", True, f"time of the processor; {scenes}", of_plan),
        Figure("driver: first plan, memory", plan["peak_mb"], 400, "MB", True, scenes),
    ]


def _plan(folder: Path) -> dict[str, float]:
    project = write_project(folder, SCENES, 32, validation=SCENES // 8)
    in_child("benchmarks.driver", "plan", str(project))  # hashes all files
    return in_child("benchmarks.driver", "plan", str(project))


def plan(path: Path) -> dict[str, float]:
    """Plan the training of a project, and return what that took."""
    from rvbuild.project.load import load
    from rvbuild.session.build import Order, planned

    gc.disable()  # as the command does
    began, cpu = time.perf_counter(), time.process_time()
    with planned([load(path)], Order("train"), Silent()) as session:
        states = [session.session.plan[artifact.name].decision.state for artifact in session.closure]
    return {
        "artifacts": len(states),
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_rss_mb(),
    }


class Silent:
    """A reporter and a receiver of progress that nobody sees."""

    def begins(self, artifact: object, decision: object) -> Any:
        return self

    def ended(self, outcome: object) -> None:
        pass

    def note(self, line: str) -> None:
        pass

    def start(self, *words: object) -> None:
        pass

    def advance(self, *steps: object) -> None:
        pass


class _Node:
    """An executor whose jobs write one small file, and that counts the time of the processor that they take."""

    is_elsewhere = False

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self._counting = threading.Lock()

    def run(self, job: Any, progress: Any) -> Any:
        from rvbuild.engine.run.made import make

        def write() -> None:
            text = f"{job.kwargs['settings']['number']:08}" * (OUTPUT_BYTES // 8)
            (job.kwargs["outputs"] / "out.txt").write_text(text)

        cpu = time.thread_time()
        made = make(job.making, job.kwargs["outputs"], write, progress.note)
        with self._counting:
            self.cpu_s += time.thread_time() - cpu
        return made

    def at_once(self) -> int:
        return 1

    def prepare(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def plan_of(folder: Path, artifacts: Sequence[Any]) -> tuple[Any, Any]:
    """Return a new workspace, and the plan of artifacts in it."""
    from rvbuild.engine.plan.plan import Plan
    from rvbuild.engine.workspace import Workspace

    workspace = Workspace(folder)
    plan = Plan(workspace, artifacts, lambda unknown: [None for _ in unknown])
    workspace.sweep()
    plan.examine(plan.closure([artifact.name for artifact in artifacts]))
    return workspace, plan


def build(folder: Path, count: int, jobs: int) -> dict[str, float]:
    """Build `count` artifacts, and write their files in a bare loop; return what that took."""
    from rvbuild.engine.run import doit
    from rvbuild.engine.run.execute import Builder

    artifacts = list(_artifacts(folder, count))
    names = [artifact.name for artifact in artifacts]
    workspace, plan = plan_of(folder, artifacts)
    node = _Node()
    builder = Builder(plan, node, Silent())
    began, cpu = time.perf_counter(), time.process_time()
    doit.run(builder.to_do(names), builder, jobs, keep_going=False)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    did = {outcome.did.value for outcome in builder.outcomes.values()}
    if did != {"built"} or len(builder.outcomes) != count:
        raise RuntimeError(f"{len(builder.outcomes)} of {count} artifacts: {did}")
    record = workspace.store.action_file(str(plan[names[0]].facts.key)).stat().st_size
    workspace.close()
    bare_seconds, bare_cpu_s = _bare(folder / "bare", count, record)
    return {
        "cpu_ms": 1000 * (cpu_s - node.cpu_s) / count,
        "node_cpu_ms": 1000 * node.cpu_s / count,
        "seconds": seconds,
        "bare_cpu_ms": 1000 * bare_cpu_s / count,
        "bare_seconds": bare_seconds,
        "record_bytes": record,
        "peak_mb": peak_rss_mb(),
    }


def _artifacts(folder: Path, count: int) -> Iterable[Any]:
    """Yield artifacts of which half read a new file of the user, and half the output of another."""
    from rvbuild.engine.keys.artifact import Artifact, Product, Source

    (folder / "data").mkdir(parents=True)
    for number in range(count // 2):
        scene = f"s{number:05}"
        source = folder / "data" / f"{scene}.txt"
        source.write_text(scene)
        for stage, item in (
            ("one", Source("image", (source,))),
            ("two", Product("one", f"one:p:{scene}")),
        ):
            settings = {**_SETTINGS, "number": number + (stage == "two") * count}
            name, place = f"{stage}:p:{scene}", f"cache/p/{stage}/{scene}"
            yield Artifact(name, "p", stage, scene, "none:none", 1, settings, (item,), place)


def _bare(folder: Path, count: int, record_bytes: int) -> tuple[float, float]:
    """Write an object, a record and a visible file for each artifact; the first two are made durable."""
    for number in range(256):
        (folder / f"{number:02x}").mkdir(parents=True)
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        for kind, size, durable in (("o", OUTPUT_BYTES, True), ("r", record_bytes, True), ("f", OUTPUT_BYTES, False)):
            place = folder / f"{number % 256:02x}"
            with (folder / "new").open("xb") as file:
                file.write(bytes(size))
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            (folder / "new").rename(place / f"{kind}{number}")
    return time.perf_counter() - began, time.process_time() - cpu


if __name__ == "__main__":
    if sys.argv[1] == "plan":
        print(json.dumps(plan(Path(sys.argv[2]))))
    else:
        print(json.dumps(build(Path(sys.argv[3]), int(sys.argv[1]), int(sys.argv[2]))))
