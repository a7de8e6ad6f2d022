"""Predicts what words name with a bundle, as far as it is not up to date."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.cores import THREADS_VARIABLE, cores, thread_count
from rvbuild.engine.keys.artifact import Demand, Resource, canonical
from rvbuild.engine.run.machine import this_machine
from rvbuild.engine.run.outcome import Outcome, Reporter
from rvbuild.engine.run.questions import files_asker
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Executor
from rvbuild.errors import DataError, UsageError
from rvbuild.geo.gdal import admission
from rvbuild.process import variables
from rvbuild.progress import Progress, Silent
from rvbuild.session.executors import new_executor
from rvbuild.session.predicting.folder import RESERVED, Folder, opened
from rvbuild.session.predicting.inputs import find
from rvbuild.session.predicting.scenes import scenes
from rvbuild.stages.bundle import results
from rvbuild.stages.names import AnyTestTime, Engine

if TYPE_CHECKING:
    from rvbuild.session.predicting.plan import Planned
    from rvbuild.session.predicting.run import Run

_PLACES = admission.environment(None, ())
"""Virtual files may only refer to files in their own directory."""

_PRELOAD = ("numpy", "rasterio", "rvbuild.stages.bundle.jobs")


@dataclass(frozen=True)
class Order:
    """A request to predict.

    Attributes
    ----------
    bundle : Path
        The zip.
    named : Path
        The bundle as the user named it: the zip, or a directory that was packed.
    words : tuple of str
        What to predict; see `rvbuild.session.predicting.inputs`.
    into : Path
        The directory of predictions.
    engine : Engine
        What computes the network.
    tta : AnyTestTime, optional
        The test-time augmentation; default: that of the bundle.
    assets : tuple of str
        The assets of STAC items to predict; empty for the default.
    jobs : int
        Number of predictions that are made in parallel; they share the cores.
    always_make : bool
        Whether predictions that are up to date are made again.
    allow_code : bool
        Whether the Python code of the bundle may run.
    inline : bool
        Whether everything runs in this process, one at a time.
    """

    bundle: Path
    named: Path
    words: tuple[str, ...]
    into: Path
    engine: Engine = "auto"
    tta: AnyTestTime | None = None
    assets: tuple[str, ...] = ()
    jobs: int = 1
    always_make: bool = False
    allow_code: bool = False
    inline: bool = False


@dataclass(frozen=True)
class Prepared:
    """Predictions that are planned, in a directory that is locked.

    Attributes
    ----------
    folder : Folder
    planned : list of Planned
        In the order of the words.
    """

    folder: Folder
    planned: list[Planned]
    _run: Run = field(repr=False)
    _jobs: int

    def run(self, overall: Progress) -> list[Outcome]:
        """Make what is not up to date, write the manifest, and return the outcome of each prediction.

        Parameters
        ----------
        overall
            Receives the progress of all of them, in images.
        """
        from rvbuild.session.predicting import manifest

        try:
            return self._run.all(self.planned, self._jobs, overall)
        finally:
            manifest.write(self.folder)


@contextlib.contextmanager
def prepared(order: Order, reporter: Reporter, *, dry_run: bool = False) -> Iterator[Prepared]:
    """Open the bundle and the directory of predictions, and plan.

    Parameters
    ----------
    order
        What is requested.
    reporter
        Receives the events.
    dry_run
        Whether nothing is to be written.

    Raises
    ------
    UsageError
        An input does not exist, or which image is meant is not clear; with all problems.
    DataError
        The bundle is damaged, or results would be written over one another or over something else.
    """
    if not order.bundle.is_file():
        raise UsageError(f"no such file: {order.bundle}")
    out = Path(os.path.abspath(order.into))  # noqa: PTH100 - symbolic links of the user are kept
    if out.exists() and not out.is_dir():
        raise UsageError(f"{order.into}: is a file; expected a directory for the predictions")
    found = find(order.words, out)
    jobs = 1 if order.inline else order.jobs
    threads = thread_count() if os.environ.get(THREADS_VARIABLE, "").strip() else max(1, cores() // jobs)
    bundle = order.bundle.absolute()
    with contextlib.ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rvbuild-bundle-")))
        into = own / "bundle"
        into.mkdir()
        executor = stack.enter_context(_executor(own / "log", threads, inline=order.inline))
        executor.prepare()
        # Imported late, beside the imports of workers: rules import what describes projects.
        from rvbuild.rules import lock
        from rvbuild.rules.inputs.companions import Companions
        from rvbuild.session.predicting.plan import Settings, plan
        from rvbuild.session.predicting.run import Run

        named = order.named.absolute()
        shared = {"named": named, "allow_code": order.allow_code, "engine": order.engine}
        resource = Resource.TORCH if order.engine in ("auto", "torch") else Resource.CPU
        start = Job("rvbuild.stages.bundle.jobs:open_once", {**shared, "bundle": bundle, "into": into}, resource)
        facts = executor.run(start, Silent())
        chosen = scenes(found, facts["files"], facts["assets"], order.assets)
        _require_names(chosen)
        results.places(chosen, out, set(facts["vectors"]))
        folder = stack.enter_context(opened(out, reporter.note, dry_run=dry_run))
        companions = Companions(
            files_asker(executor), folder.state, canonical(_PLACES).decode("utf-8", "surrogatepass")
        )
        companions.learn(("raster", path) for scene in chosen for path in scene.files)
        on_torch = facts["engine"] == "torch"
        demand = Demand(cores=max(1, cores() // jobs), device=facts["device"] if on_torch else "cpu")
        code = lock.edited(("infer", "predict"), facts["task"], folder.state)
        computes = Resource.TORCH if on_torch else Resource.CPU
        settings = Settings(bundle, named, facts["engine"], order.tta, code, demand, computes)
        planned = plan(folder, chosen, settings, companions, order.always_make)
        run = Run(folder, executor, this_machine(), reporter, {**shared, "opened": into, "tta": order.tta}, companions)
        yield Prepared(folder, planned, run, jobs)


@contextlib.contextmanager
def _executor(logs: Path, threads: int, *, inline: bool) -> Iterator[Executor]:
    """Start workers that know nothing of projects, with a number of threads each."""
    environment = {
        **variables.for_workers(os.environ),
        **_PLACES,
        "OMP_NUM_THREADS": str(threads),
        THREADS_VARIABLE: str(threads),
    }
    executor = new_executor(environment, logs, _PRELOAD, inline=inline)
    try:
        yield executor
    except BaseException:
        executor.interrupt()
        raise
    finally:
        executor.close()


def _require_names(chosen: Sequence[results.Scene]) -> None:
    for scene in chosen:
        if scene.name.partition("/")[0] in RESERVED:
            raise DataError(f"{scene.files[0]}: its result would be called {scene.name}, which is reserved; rename it")
