"""Verifies a bundle, or writes it as a model repository, in a separate process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvbuild import rules
from rvbuild.engine.run.worker import Job
from rvbuild.process import variables
from rvbuild.progress import Progress
from rvbuild.session.executors import new_executor

if TYPE_CHECKING:
    from rvbuild.project.model import Project


def verify_file(bundle: Path, progress: Progress, *, allow_code: bool = False, inline: bool = False) -> list[str]:
    """Verify a bundle with the engines that are installed; return what was verified, a line each."""
    kwargs = {"bundle_path": bundle.absolute(), "allow_code": allow_code}
    return list(_run(Job("rvbuild.stages.bundle.verify:verify_bundle", kwargs), progress, inline))


def write_repository(project: Project, folder: Path, progress: Progress, *, inline: bool = False) -> list[str]:
    """Write the bundle of a project as the files of a model repository; return their names.

    The bundle is up to date.
    """
    from rvbuild.rules.bundle import about  # what only predicts has no rules

    built = project.workspace / "cache" / project.name
    log = built / "train" / "log.jsonl"
    kwargs = {
        "bundle": built / "bundle" / f"{project.name}.zip",
        "log": log if project.train.backend is None else None,
        "about": about(project),
        "name": project.name,
        "folder": folder.absolute(),
    }
    return list(_run(Job("rvbuild.stages.bundle.hub.repository:write_repository", kwargs), progress, inline))


def rewrite_repository(bundle: Path, folder: Path, progress: Progress, *, inline: bool = False) -> list[str]:
    """Write a bundle that is there as the files of a model repository; return their names."""
    kwargs = {
        "bundle": bundle.absolute(),
        "log": None,
        "about": None,
        "name": bundle.stem,
        "folder": folder.absolute(),
    }
    return list(_run(Job("rvbuild.stages.bundle.hub.repository:write_repository", kwargs), progress, inline))


def _run(job: Job, progress: Progress, inline: bool) -> Any:
    """Run a job in a process of its own, which knows nothing of projects."""
    # Virtual files may only refer to files in their own directory.
    environment = {**variables.for_workers(os.environ), **rules.places(None, ())}
    with tempfile.TemporaryDirectory(prefix="rvbuild-log-") as logs:
        executor = new_executor(environment, Path(logs), inline=inline)
        try:
            return executor.run(job, progress)
        except BaseException:
            executor.interrupt()
            raise
        finally:
            executor.close()
