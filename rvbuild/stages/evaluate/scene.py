"""The eval stage of one scene: predictions counted against labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import ReadOnly

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.progress import Progress
from rvbuild.settings.area import OfArea
from rvbuild.settings.classes import ClassName, ClassSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.labels import LabelSettings
from rvbuild.stages.cut import require_rows
from rvbuild.stages.threads.block_cache import cache_of
from rvbuild.tasks.evaluation import Counts
from rvbuild.tasks.metrics.places import WorstPlaces

CACHE_ROWS, CACHE_BYTES_PER_PX = 1024, 4
"""Number of rows in GDAL's cache: two rows of blocks of predictions (a byte per pixel) and of coloured labels."""


class EvalStageSettings(OfArea):
    """The settings of the stage."""

    task: str
    scene: str
    """The scene's id."""
    labels: LabelSettings
    classes: list[ClassName] | list[ClassSettings]
    """With colours if the labels are coded by them."""
    null_id: int
    eval: ReadOnly[EvalSettings]


def run(inputs: Mapping[str, Sequence[Path]], settings: EvalStageSettings, outputs: Path, progress: Progress) -> None:
    """Count the predictions of one scene against its labels.

    Parameters
    ----------
    inputs
        `predictions`: the file that the predict stage wrote; `labels`: the files of the scene; `aoi`: none or more;
        `scores`: the raster of scores, if there is one.
    settings
        See `EvalStageSettings`.
    outputs
        Receives `eval.json`: `{"scene": …, …}` with the counts of the task, which can be added over scenes; and
        `places.json`, see `rvbuild.tasks.metrics.places.Places`.
    progress
        Receives progress, in rows.

    Raises
    ------
    DataError
        There are no labels, or they do not match the predictions or the classes.
    """
    write(settings, outputs, *count(inputs, settings, progress))


def count(
    inputs: Mapping[str, Sequence[Path]],
    settings: EvalStageSettings,
    progress: Progress,
    rows: tuple[int, int] | None = None,
) -> tuple[Counts, WorstPlaces]:
    """Return the counts of a scene, or of a strip of it, and the worst places.

    Parameters
    ----------
    inputs, settings, progress
        See `run`.
    rows
        The first row of a strip, and the one after its last; the task has strips.
    """
    classes, null_id = settings["classes"], settings["null_id"]
    if not inputs.get("labels"):
        raise DataError(
            f"scene {settings['scene']}: expected labels to evaluate against, found none; give the scene `labels`, "
            "or leave its split out of `eval.splits`"
        )
    task = tasks.get(settings["task"])
    (predictions,) = inputs["predictions"]
    grid = task.scene_grid(predictions)
    if rows is not None:
        require_rows([predictions], grid, rows[1])
    with cache_of(CACHE_ROWS * CACHE_BYTES_PER_PX * grid.width):
        aoi = open_aoi(inputs.get("aoi", ()), grid, settings.get("area"))
        with task.labels(inputs["labels"], settings["labels"], grid, classes, null_id) as labels:
            for note in labels.notes:
                progress.note(note)
            worst, scores = WorstPlaces(), next(iter(inputs.get("scores", ())), None)
            if rows is None:
                own = settings["eval"]
                return task.score(predictions, labels, aoi, classes, null_id, progress, own, worst, scores), worst
            assert task.RASTER_STRIPS is not None  # otherwise rules cut nothing
            counts = task.RASTER_STRIPS.score(predictions, labels, aoi, classes, null_id, progress, worst, scores, rows)
            return counts, worst


def write(settings: EvalStageSettings, outputs: Path, counts: Counts, worst: WorstPlaces) -> None:
    """Write `eval.json` and `places.json`."""
    text = json.dumps({"scene": settings["scene"], **counts}, sort_keys=True)
    (outputs / "eval.json").write_text(text + "\n", encoding="utf-8")
    places = json.dumps(worst.to_json(), sort_keys=True)
    (outputs / "places.json").write_text(places + "\n", encoding="utf-8")
