"""The predict stage: all files of a scene that are derived from the raw result, without the network.

Thresholds, formats, polygons and styles are changed often, and a network over a large scene takes long. So the infer
stage keeps the raw result of a task, and this stage derives the rest from it: at once, or in strips of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired

from rvbuild import tasks
from rvbuild.progress import Progress
from rvbuild.stages.cut import CutHints, require_rows, strips_in
from rvbuild.tasks.settings import DeriveSettings


class StripDeriveSettings(DeriveSettings):
    """The settings of a strip of a scene."""

    rows: list[int]
    """The first row of the strip, and the one after its last."""


class JoinDeriveSettings(DeriveSettings):
    """The settings of a scene, and how it was cut."""

    strips: NotRequired[CutHints]


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
    tasks.get(settings["task"]).derive(_raw(inputs), settings, outputs, progress)


def run_strip(
    inputs: Mapping[str, Sequence[Path]], settings: StripDeriveSettings, outputs: Path, progress: Progress
) -> None:
    """Derive from a strip what `run_join` needs of it.

    Parameters
    ----------
    inputs
        See `run`.
    settings
        See `StripDeriveSettings`.
    outputs
        Receives files of the task's own.

    Raises
    ------
    DataError
        As `run`; or the raw result does not have the rows.
    """
    task, (first, stop) = tasks.get(settings["task"]), settings["rows"]
    assert task.RASTER_STRIPS is not None  # otherwise rules cut nothing
    require_rows(inputs["raw"], task.scene_grid(inputs["raw"][0]), stop)
    task.RASTER_STRIPS.derive(_raw(inputs), settings, (first, stop), outputs, progress)


def run_join(
    inputs: Mapping[str, Sequence[Path]], settings: JoinDeriveSettings, outputs: Path, progress: Progress
) -> None:
    """Join what was derived from the strips of a scene; if one is not there, derive the files of the scene at once.

    Parameters
    ----------
    inputs
        As for `run`; and `strips/0`, `strips/1` and so on: the files of each strip.
    settings
        See `JoinDeriveSettings`.
    outputs
        Receives the files of `run`, with the same bytes.
    """
    strips = strips_in(inputs, settings.get("strips"))
    if not strips:
        run(inputs, settings, outputs, progress)
        return
    task = tasks.get(settings["task"])
    assert task.RASTER_STRIPS is not None  # otherwise rules cut nothing
    require_rows(inputs["raw"], task.scene_grid(inputs["raw"][0]), strips[-1].stop, last=True)
    task.RASTER_STRIPS.join_derived(strips, _raw(inputs), settings, outputs, progress)


def _raw(inputs: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Return the raw files of a scene by name."""
    return {path.name: path for path in (*inputs["raw"], *inputs.get("scores", ()))}
