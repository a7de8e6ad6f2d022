"""The out-of-fold prediction of a scene: each place as the model predicts it that has not learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild import tasks
from rvbuild.progress import Progress
from rvbuild.project.tasks import SPECS
from rvbuild.stages import predict
from rvbuild.tasks.settings import DeriveSettings


def run(inputs: Mapping[str, Sequence[Path]], settings: DeriveSettings, outputs: Path, progress: Progress) -> None:
    """Join the predictions of a scene by the models of several folds, and derive what predict derives.

    Parameters
    ----------
    inputs
        `raw/<fold>`: the raw result of the task, and its raster of scores if there is one; each of the places of its
        fold alone.
    settings
        Those of the predict stage.
    outputs
        Receives the same files, and those of the predict stage.
    progress
        Receives progress.

    Raises
    ------
    DataError
        The results cannot be read, are of different grids, or two of them predict one place.
    """
    name = settings["task"]
    task, score_raster = tasks.get(name), SPECS[name].score_raster
    parts = [{path.name: path for path in inputs[role]} for role in sorted(inputs)]
    task.join(parts, settings, outputs, progress)
    raw: dict[str, Sequence[Path]] = {"raw": [outputs / file for file in task.RAW]}
    if score_raster and (outputs / score_raster).exists():
        raw["scores"] = [outputs / score_raster]
    predict.run(raw, settings, outputs, progress)
