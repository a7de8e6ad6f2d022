"""Predicts images with a bundle, in a separate process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rvbuild import rules
from rvbuild.engine.run.worker import Job
from rvbuild.errors import UsageError
from rvbuild.files.urls import Url
from rvbuild.process import variables
from rvbuild.progress import Progress
from rvbuild.session.session import new_executor

#: Suffixes of images, for the message about a directory in place of images.
IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".img", ".vrt"})


def require_files(bundle: Path, images: Sequence[Path | Url], into: Path) -> None:
    """Require that a bundle and the images to predict are files.

    Raises
    ------
    UsageError
        One does not exist, or is a directory.
    """
    missing = [str(p) for p in [bundle, *images] if not isinstance(p, Url) and not p.exists()]
    if missing:
        raise UsageError("no such file: " + ", ".join(missing))
    for folder in (p for p in images if not isinstance(p, Url) and p.is_dir()):
        suffixes = sorted({f.suffix for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES}) or [".tif"]
        files = " ".join(f"{quote(str(folder))}/*{suffix}" for suffix in suffixes)
        command = f"rvbuild predict {quote(str(bundle))} {files} -o {quote(str(into))}"
        raise UsageError(f"{folder}: is a directory; name its images, as in `{command}`")


def predict_files(
    bundle: Path,
    images: Sequence[Path | Url],
    into: Path,
    progress: Progress,
    *,
    allow_code: bool = False,
    inline: bool = False,
    engine: str = "auto",
) -> list[Path]:
    """Predict images with a bundle; return the files written into the directory `into`."""
    kwargs = {"bundle_path": bundle.absolute(), "images": images, "out": into.absolute(), "allow_code": allow_code}
    resource = "torch" if engine in ("auto", "torch") else "cpu"
    job = Job("rvbuild.stages.bundle.predict:predict_images", {**kwargs, "engine": engine}, resource)
    return list(_run(job, progress, inline))


def verify_file(bundle: Path, progress: Progress, *, allow_code: bool = False, inline: bool = False) -> list[str]:
    """Verify a bundle with the engines that are installed; return what was verified, a line each."""
    kwargs = {"bundle_path": bundle.absolute(), "allow_code": allow_code}
    return list(_run(Job("rvbuild.stages.bundle.verify:verify_bundle", kwargs), progress, inline))


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
