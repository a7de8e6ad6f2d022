"""The check of a training backend before work: its factory is called. It runs in a worker with the user's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rvbuild.errors import RvbuildError
from rvbuild.learn.backend import make_backend
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Progress


def try_out(
    task: str,
    backend: str,
    args: Mapping[str, Any],
    bands: int,
    dtype: str,
    classes: Sequence[Mapping[str, Any]],
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
        outputs=[str(entry["name"]) for entry in classes if entry["id"] != null_id],
        classes=[dict(entry) for entry in classes],
        null_id=null_id,
        chip_px=chip_px,
        normalize={},
        backend=True,
    )
    try:
        make_backend(info)
    except RvbuildError as error:
        return str(error), True
    return "", True
