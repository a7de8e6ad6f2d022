"""The eval stage, for strips of rows of a large scene, and for the scene from its strips: counts add up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired

from rvbuild import tasks
from rvbuild.progress import Progress
from rvbuild.stages.cut import CutHints, require_rows, strips_in
from rvbuild.stages.evaluate import scene
from rvbuild.stages.evaluate.scene import EvalStageSettings
from rvbuild.tasks.metrics.places import WorstPlaces

COUNTS, PLACES = "eval.json", "places.json"


class StripEvalSettings(EvalStageSettings):
    """The settings of a strip of a scene."""

    rows: list[int]
    """The first row of the strip, and the one after its last."""


class JoinEvalSettings(EvalStageSettings):
    """The settings of a scene, and how it was cut."""

    strips: NotRequired[CutHints]


def run(inputs: Mapping[str, Sequence[Path]], settings: StripEvalSettings, outputs: Path, progress: Progress) -> None:
    """Count the predictions of a strip against its labels.

    Parameters
    ----------
    inputs, outputs
        See `rvbuild.stages.evaluate.scene.run`.
    settings
        See `StripEvalSettings`.

    Raises
    ------
    DataError
        As `rvbuild.stages.evaluate.scene.run`; or the predictions do not have the rows.
    """
    first, stop = settings["rows"]
    scene.write(settings, outputs, *scene.count(inputs, settings, progress, (first, stop)))


def run_join(
    inputs: Mapping[str, Sequence[Path]], settings: JoinEvalSettings, outputs: Path, progress: Progress
) -> None:
    """Add the counts of the strips of a scene; if one is not there, count the scene at once.

    Parameters
    ----------
    inputs
        As for `rvbuild.stages.evaluate.scene.run`; and `strips/0`, `strips/1` and so on: the files of each strip.
    settings
        See `JoinEvalSettings`.
    """
    strips = strips_in(inputs, settings.get("strips"))
    if not strips:
        scene.run(inputs, settings, outputs, progress)
        return
    task = tasks.get(settings["task"])
    assert task.RASTER_STRIPS is not None  # otherwise rules cut nothing
    predictions = inputs["predictions"]
    require_rows(predictions, task.scene_grid(predictions[0]), strips[-1].stop, last=True)
    worst, parts = WorstPlaces(), []
    for strip in strips:
        worst.add_all(json.loads(strip.files[PLACES].read_text(encoding="utf-8")))
        parts.append(json.loads(strip.files[COUNTS].read_text(encoding="utf-8")))
    scene.write(settings, outputs, task.RASTER_STRIPS.added(parts), worst)
