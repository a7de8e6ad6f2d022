"""The suspects stage: labels of all scenes that are probably wrong, and objects that probably lack one.

Each block of a scene is judged by the model of all other folds of all labelled scenes: those that are validated or
tested on are learned from, too. So no label is judged by a model that has learned it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import shapely

from rvbuild import tasks
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.progress import Progress
from rvbuild.review.finding.objects import (
    SMALLEST,
    Item,
    Label,
    Place,
    Scene,
    is_mostly_in,
    items_of,
    places_of,
    typical_of,
)
from rvbuild.review.finding.suspects import Gathered, suspects_of
from rvbuild.review.labels import read_objects
from rvbuild.review.suspect import KINDS, SUSPECTS, Kind, write_suspects
from rvbuild.settings.labels import LabelSettings
from rvbuild.stages.draft.cells import SceneFeatures
from rvbuild.stages.draft.stored import fold_of
from rvbuild.stages.review.maps import Models, map_of, read_models
from rvbuild.stages.review.settings import ReviewedScene, SuspectsSettings

FOLDS = 5
"""Parts of the area: what is judged in one was learned in the others."""


def run(inputs: Mapping[str, Sequence[Path]], settings: SuspectsSettings, outputs: Path, progress: Progress) -> None:
    """Write the suspects of a project.

    Parameters
    ----------
    inputs
        `sums/<scene id>`: `sums.json` and `totals.npy`, `features/<scene id>`, `labels/<scene id>` and, for some,
        `aoi/<scene id>` of each labelled scene; `scores/<scene id>`: `scores.tif`
        or `cells.json` of a trained model, for scenes that it has not seen, if they count.
    settings
        task, classes, null_id, background, scenes, most_made.
    outputs
        Receives `suspects.json`, see `rvbuild.review.suspect`.
    progress
        Receives progress, in rows of blocks of each scene.

    Raises
    ------
    DataError
        The labels do not match the image or the classes, no scene has a label, or scenes have different bands.
    """
    sums = {role.partition("/")[2]: files for role, files in inputs.items() if role.startswith("sums/")}
    models = read_models(sums, settings["classes"], settings["null_id"], settings["background"])
    known = models.known()
    reviewed = [_read(inputs, settings, scene, known) for scene in settings["scenes"]]
    names = {int(c["id"]): str(c["name"]) for c in settings["classes"]}
    for class_id in sorted({label.class_id for each in reviewed for label in each.unjudged} - known):
        progress.note(f"labels of {names[class_id]} are not judged: they lie in one part of the area, or are too few")
    kinds = typical_of(_areas(reviewed))
    share = min(1.0, settings["most_made"] / max(sum(len(each.labels) for each in reviewed), 1))
    scenes, labels, made, places = list[Scene](), list[Item](), list[Item](), list[Place]()
    progress.start("review", sum(each.features.cells.rows for each in reviewed), "rows of blocks")
    for number, each in enumerate(reviewed):
        with tempfile.TemporaryDirectory(dir=outputs) as folder:
            scene = _scene(each, settings, models, Path(folder), progress)
            of_scene, made_of_scene = items_of(number, scene, kinds, share)
            labels += of_scene
            made += made_of_scene
            places += places_of(number, scene, kinds)
        scenes.append(scene)
    write_suspects(outputs / SUSPECTS, suspects_of(scenes, Gathered(labels, made, places), kinds, names))


class _Reviewed(NamedTuple):
    """A scene and its labels."""

    settings: ReviewedScene
    features: SceneFeatures
    files: Sequence[Path]
    aoi: Aoi | None
    trained: Path | None
    """Scores of a trained model that has not seen the scene, if they count."""
    area: Any
    labels: Sequence[Label]
    unjudged: Sequence[Label]


def _read(
    inputs: Mapping[str, Sequence[Path]], settings: SuspectsSettings, scene: ReviewedScene, known: frozenset[int]
) -> _Reviewed:
    """Read the labels of a scene. Those of known classes that lie mostly in its area of interest are judged."""
    name = scene["scene"]
    features, files = SceneFeatures(inputs[f"features/{name}"]), inputs[f"labels/{name}"]
    grid = features.grid
    aoi = open_aoi(inputs.get(f"aoi/{name}", ()), grid, scene.get("area"))
    objects = read_objects(
        settings["task"], files, scene["labels"], grid=grid, classes=scene["classes"], null_id=settings["null_id"]
    )
    area = shapely.box(0, 0, grid.width, grid.height)
    if aoi is not None:
        area = shapely.intersection(area, aoi.outline())
    shapely.prepare(area)
    labels, unjudged = list[Label](), list[Label]()
    for each in objects:
        if each.shape.area > 0:
            kept = labels if each.class_id in known and is_mostly_in(area, each.shape) else unjudged
            kept.append(Label(each.shape, each.class_id, each.source))
    trained = next(iter(inputs.get(f"scores/{name}", ())), None)
    return _Reviewed(scene, features, files, aoi, trained, area, labels, unjudged)


def _areas(reviewed: Sequence[_Reviewed]) -> dict[int, list[float]]:
    """Return the areas of the labels of each class, but for tiny ones."""
    areas: dict[int, list[float]] = {}
    for each in reviewed:
        for label in each.labels:
            if label.area.area >= SMALLEST * each.features.cells.stride_px**2:
                areas.setdefault(label.class_id, []).append(label.area.area)
    return areas


def _scene(reviewed: _Reviewed, settings: SuspectsSettings, models: Models, folder: Path, progress: Progress) -> Scene:
    scene, features, aoi = reviewed.settings, reviewed.features, reviewed.aoi
    cells, grid, null_id = features.cells, features.grid, settings["null_id"]
    name, task, first = scene["scene"], tasks.get(settings["task"]), scene["seed"] % FOLDS
    with closing(task.pixel_labels(reviewed.files, scene["labels"], grid, scene["classes"], null_id)) as pixels:
        scores = map_of(name, features, models, pixels, aoi, settings["classes"], folder, reviewed.trained, progress)
        for note in pixels.notes:
            progress.note(note)
    bounds = (0.0, 0.0, float(grid.width), float(grid.height)) if aoi is None else aoi.outline().bounds

    def fold(x: float, y: float) -> int:
        return fold_of(int(y) // cells.block_px, int(x) // cells.block_px, first, FOLDS)

    return Scene(
        name,
        scores,
        reviewed.labels,
        bounds,
        fold,
        _kinds(scene["labels"]),
        scene["seed"],
        reviewed.area,
        reviewed.unjudged,
    )


def _kinds(labels: LabelSettings) -> tuple[Kind, ...]:
    """Return the kinds of error that labels can have."""
    if labels["kind"] == "raster":
        # Each pixel has one class: nothing is drawn twice, and what is spurious has another class. Cells have no
        # outline of their own.
        return ("class",) if "cells" in labels else ("class", "outline", "missing")
    return KINDS
