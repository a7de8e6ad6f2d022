"""The train stage with a training backend: chips in, the arrays of a model and their description out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import safetensors.numpy

from rvbuild import tasks
from rvbuild.learn.backend import ChipArrays, train_backend
from rvbuild.learn.hooks import TargetOps
from rvbuild.learn.model_files import DESCRIPTION, RAW_VALUES, WEIGHTS, ModelInfo, write_info
from rvbuild.progress import Progress
from rvbuild.stages.train.chips import class_names, imagery_of, training_chips, validation_chips
from rvbuild.stages.train.settings import BackendStageSettings


def run(
    inputs: Mapping[str, Sequence[Path]], settings: BackendStageSettings, outputs: Path, progress: Progress
) -> None:
    """Train a model with the user's backend.

    Parameters
    ----------
    inputs
        As for `rvbuild.stages.train.stage.run`, without `stats` and `weights`.
    settings
        See `BackendStageSettings`.
    outputs
        Receives `model.safetensors` and `model.json`.
    progress
        Receives what the backend reports.

    Raises
    ------
    DataError
        There are no training chips, or the chips of scenes do not match.
    ModelError
        The backend cannot be used, or fails.
    """
    task, train, null_id = tasks.get(settings["task"]), settings["train"], settings["null_id"]
    ops = TargetOps(task.unpack, task.orient, task.collate)
    imagery = imagery_of(inputs, settings.get("pixels", {}))
    chips = training_chips(inputs, settings, ops, imagery, progress)
    validation = validation_chips(inputs, ops, imagery)
    names = class_names(settings["classes"], chips)
    info = ModelInfo(
        task=settings["task"],
        model=train["backend"],
        model_args=train["backend_args"],
        bands=chips.bands,
        dtype=chips.dtype,
        outputs=[name for number, name in enumerate(names) if number != null_id],
        classes=settings["classes"],
        null_id=null_id,
        chip_px=settings["chip_px"],
        normalize=RAW_VALUES,
        backend=True,
    )
    with closing(chips), closing(validation):
        watched = ChipArrays(validation) if validation.count else None
        arrays = train_backend(info, ChipArrays(chips), watched, settings["seed"], progress)
    safetensors.numpy.save_file(arrays, outputs / WEIGHTS)
    write_info(outputs / DESCRIPTION, info)
