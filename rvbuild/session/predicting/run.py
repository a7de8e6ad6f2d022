"""Predictions made: in worker processes, each put in place when it is complete, and recorded then."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rvbuild import __version__
from rvbuild.engine.keys.signature import hash_file, signature
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.machine import Machine
from rvbuild.engine.run.outcome import Did, Outcome, Reporter
from rvbuild.engine.run.worker import Job, plain
from rvbuild.engine.run.workers import Executor, Interrupted
from rvbuild.engine.store.state import Output, Record
from rvbuild.errors import RvbuildError, StageError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Progress
from rvbuild.rules.inputs import sidecars
from rvbuild.rules.inputs.companions import Companions
from rvbuild.session.predicting.folder import Folder
from rvbuild.session.predicting.plan import Planned
from rvbuild.stages.bundle import results


class Run:
    """Makes predictions that are not up to date.

    Parameters
    ----------
    folder
        The directory of predictions.
    executor
        Runs the jobs.
    machine
        The cores and GPUs that jobs share.
    reporter
        Receives the events.
    job
        The arguments of every job.
    companions
        Finds the files that belong to an image.
    """

    def __init__(
        self,
        folder: Folder,
        executor: Executor,
        machine: Machine,
        reporter: Reporter,
        job: dict[str, Any],
        companions: Companions,
    ) -> None:
        self._folder, self._executor, self._machine = folder, executor, machine
        self._reporter, self._job, self._companions = reporter, job, companions
        self._stopped = threading.Event()

    def all(self, planned: Sequence[Planned], jobs: int, overall: Progress) -> list[Outcome]:
        """Make the predictions that are not up to date, `jobs` at a time; return the outcome of each.

        A failure does not stop the others.

        Raises
        ------
        KeyboardInterrupt
            The user interrupted the run: what is complete is recorded.
        """
        overall.start("", len(planned), "images")

        def one(item: Planned) -> Outcome | None:
            outcome = self._one(item)
            overall.advance()
            return outcome

        try:
            outcomes = map_threads(one, planned, jobs)
        except BaseException:
            self._stopped.set()
            self._executor.interrupt()
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def _one(self, planned: Planned) -> Outcome | None:
        """Make one prediction, if it is not up to date; None if the run was interrupted meanwhile."""
        artifact, decision = planned.artifact, planned.decision
        if decision.state is State.FRESH:
            record = planned.facts.record
            shown = tuple(o.path for o in record.outputs.values()) if record else ()
            outcome = Outcome(artifact, Did.FRESH, (), 0.0, planned.facts.key, shown)
            self._reporter.ended(outcome)
            return outcome
        progress = self._reporter.begins(artifact, decision)
        began = time.monotonic()
        try:
            record = self._make(planned, progress, began)
        except Interrupted:
            return None
        except RvbuildError as error:
            return self._failed(planned, str(error), "\n".join(getattr(error, "__notes__", ())), began)
        except Exception as error:  # a defect, or the machine: it must not stop the other images
            message = plain(error, self._folder.root) or f"{type(error).__name__}: {error}"
            return self._failed(planned, message, traceback.format_exc(), began)
        shown = tuple(output.path for output in record.outputs.values())
        outcome = Outcome(artifact, Did.BUILT, decision.reasons, record.seconds, record.key, shown)
        self._reporter.ended(outcome)
        return outcome

    def _failed(self, planned: Planned, message: str, detail: str, began: float) -> Outcome | None:
        if self._stopped.is_set():
            return None
        artifact, key, seconds = planned.artifact, planned.facts.key, time.monotonic() - began
        self._folder.state.fail(artifact.name, key or "", message, seconds)
        reasons = planned.decision.reasons
        outcome = Outcome(artifact, Did.FAILED, reasons, seconds, key, (), message, detail)
        self._reporter.ended(outcome)
        return outcome

    def _make(self, planned: Planned, progress: Progress, began: float) -> Record:
        """Make a prediction, put it in place, and record it."""
        facts, artifact, prints = planned.facts, planned.artifact, self._folder.prints
        if facts.key is None:
            raise StageError("; ".join(map(str, planned.decision.reasons)) or "an input is missing")
        staging = self._folder.staging()
        try:
            complete = staging / "result"  # one level deeper: with the usual permissions, not those of a private one
            complete.mkdir()
            stamps = {str(path): prints.stamp(path) for path in planned.files}
            kwargs = {**self._job, "image": list(planned.scene.files), "outputs": complete}
            with self._machine.taking(artifact.demand, self._stopped.is_set) as share:
                if self._stopped.is_set():
                    raise Interrupted
                job = Job(artifact.run, kwargs, artifact.resource, environment=share.environment())
                self._executor.run(job, progress)
            self._require_unchanged(planned, prints.changed(stamps))
            outputs = {file.name: (hash_file(file), file.stat().st_size) for file in sorted(complete.iterdir())}
            target = self._folder.root / planned.scene.name
            target.parent.mkdir(parents=True, exist_ok=True)
            results.replace(target, complete, staging / "before")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        record = Record(
            key=facts.key,
            components=facts.components,
            sources=facts.sources,
            outputs={name: _placed(artifact.shown(name), target / name, *value) for name, value in outputs.items()},
            seconds=time.monotonic() - began,
            at=time.time(),
            packages=_versions(str(artifact.settings["engine"])),
        )
        reasons = [str(reason) for reason in planned.decision.reasons]
        self._folder.state.succeed(artifact.name, record, Did.BUILT.value, reasons, record.seconds)
        return record

    def _require_unchanged(self, planned: Planned, changed: Sequence[str]) -> None:
        """Raise a StageError if an input has changed since the prediction was planned: it may be of either state."""
        for path in changed:
            self._folder.prints.forget(path)
        newcomers = [path for file in planned.scene.files for path in sidecars.sort(self._companions.appeared(file))[0]]
        if differing := [*changed, *map(str, newcomers)]:
            raise StageError(f"{differing[0]} changed while it was predicted: nothing was kept; run again")


def _placed(shown: str, path: Path, value: str, size: int) -> Output:
    now = signature(path)
    if now is None:
        raise StageError(f"{path}: was removed as soon as it was written")
    return Output(shown, value, size, now.mtime_ns, now.inode, now.ctime_ns)


_PACKAGES = {"torch": ("torch", "torchvision"), "onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}
"""The packages that compute the network, by engine."""


def _versions(engine: str) -> dict[str, str]:
    """Return the versions of what made a prediction."""
    versions = {"rvbuild": __version__}
    for name in (*_PACKAGES.get(engine, ()), "numpy", "rasterio"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
