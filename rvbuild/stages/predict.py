"""The predict stage: all files of a scene that are derived from the raw result, without the network.

Thresholds, formats, polygons and styles are changed often, and a network over a large scene takes long. So the infer
stage keeps the raw result of a task, and this stage derives the rest from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild import tasks
from rvbuild.progress import Progress
from rvbuild.tasks.settings import DeriveSettings


def run(inputs: Mapping[str, Sequence[Path]], settings: DeriveSettings, outputs: Path, progress: Progress) -> None:
    """Derive the files of one scene.

    Parameters
    ----------
    inputs
        `raw`: the files of the infer stage that the task names in `RAW`; `scores`: the raster of scores, if vectors
        carry them.
    settings
        See `rvbuild.tasks.settings.DeriveSettings`.
    outputs
        Receives the derived files: for segmentation `labels.qml`, and colours and polygons on request.
    progress
        Receives progress, in files.

    Raises
    ------
    DataError
        The raw result cannot be read.
    """
    raw = {path.name: path for path in (*inputs["raw"], *inputs.get("scores", ()))}
    tasks.get(settings["task"]).derive(raw, settings, outputs, progress)
