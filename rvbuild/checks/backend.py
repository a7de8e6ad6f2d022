"""The check of a training backend before work: its factory is called. It runs in a worker with the user's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rvbuild.errors import RvbuildError
from rvbuild.learn.backend import make_backend
from rvbuild.learn.model_files import RAW_VALUES, ModelInfo
from rvbuild.progress import Progress
from rvbuild.settings.classes import ClassSettings


def try_out(
    task: str,
    backend: str,
    args: Mapping[str, Any],
    bands: int,
    dtype: str,
    classes: Sequence[ClassSettings],
    null_id: int,
    chip_px: int,
    progress: Progress,
) -> tuple[str, bool]:
    """Return why a backend cannot be used (empty if it can), and whether this is certain."""
    info = ModelInfo(
        task=task,
        model=backend,
        model_args=dict(args),
        bands=bands,
        dtype=dtype,
        outputs=[item["name"] for item in classes if item["id"] != null_id],
        classes=[{"id": item["id"], "name": item["name"]} for item in classes],
        null_id=null_id,
        chip_px=chip_px,
        normalize=RAW_VALUES,
        backend=True,
    )
    try:
        make_backend(info)
    except RvbuildError as error:
        return str(error), True
    return "", True
