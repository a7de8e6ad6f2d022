"""Questions to workers while a run is planned: content digests and sidecars of files, and sizes of scenes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rvbuild.cores import cores
from rvbuild.engine.keys.artifact import ContentDigest
from rvbuild.engine.plan.plan import DigestRunner
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Executor
from rvbuild.errors import DataError, WorkerDiedError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Silent


def digest_runner(executor: Executor) -> DigestRunner:
    """Return a function that computes content digests on `executor`."""

    def compute_one(item: tuple[tuple[Path, ...], ContentDigest]) -> str | None:
        files, digest = item
        job = Job(digest.function, {"paths": list(files), "args": json.loads(digest.args)}, reports=False)
        try:
            return str(executor.run(job, Silent()))
        except (DataError, WorkerDiedError):
            return None  # the stage will report the error

    def compute(wanted: Sequence[tuple[tuple[Path, ...], ContentDigest]]) -> list[str | None]:
        return map_threads(compute_one, wanted, cores())

    return compute


def files_asker(executor: Executor) -> Callable[[Sequence[tuple[str, Path]]], list[Any]]:
    """Return a function that finds the sidecars of files on `executor`, given (kind of file, path) of each."""

    def ask_batch(questions: Sequence[tuple[str, Path]]) -> list[Any]:
        plain_questions = [(kind, str(path)) for kind, path in questions]
        job = Job("rvbuild.geo.dataset_files:ask", {"questions": plain_questions}, reports=False)
        return list(executor.run(job, Silent()))

    def ask(questions: Sequence[tuple[str, Path]]) -> list[Any]:
        batches = [questions[i : i + _QUESTIONS] for i in range(0, len(questions), _QUESTIONS)]
        return [answer for answers in map_threads(ask_batch, batches, cores()) for answer in answers]

    return ask


def sizes_asker(executor: Executor) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that finds the sizes of images on `executor`; see `rvbuild.geo.raster.open`."""

    def ask(questions: Sequence[Any]) -> list[Any]:
        batches = [questions[i : i + _QUESTIONS] for i in range(0, len(questions), _QUESTIONS)]
        job = "rvbuild.geo.raster.open:sizes"
        jobs = [Job(job, {"scenes": list(batch)}, reports=False) for batch in batches]
        return [answer for answers in map_threads(_result_on(executor), jobs, cores()) for answer in answers]

    return ask


def _result_on(executor: Executor) -> Callable[[Job], Sequence[Any]]:
    return lambda job: list(executor.run(job, Silent()))


_QUESTIONS = 100
"""Number of files in one job of a worker."""
