"""From accepted verdicts to edits of label files: everything that does not fit is found before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rvbuild.errors import DataError, nearest
from rvbuild.geo.classes import Classes
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.review.accepted import Accepted
from rvbuild.review.applying.changes import Plan, SceneChanges
from rvbuild.review.applying.planner import Planner
from rvbuild.review.current import CurrentLabels
from rvbuild.review.outputs import ReviewedScene


def plan(
    accepted: Sequence[Accepted],
    scenes: Mapping[str, ReviewedScene],
    *,
    task: str,
    classes: Classes,
    null_id: int,
) -> Plan:
    """Plan the edits of label files.

    Parameters
    ----------
    accepted
        Accepted suspects.
    scenes
        The scenes of the project with labels, by id.
    task, classes, null_id
        Of the project.

    Raises
    ------
    DataError
        All that does not fit: labels have changed since, formats cannot be edited, classes have no value, verdicts
        contradict each other.
    """
    made, problems = Plan(), list[str]()
    by_scene: dict[str, list[Accepted]] = {}
    for each in accepted:
        by_scene.setdefault(each.scene, []).append(each)
    for scene_id, mine in by_scene.items():
        if scene_id not in scenes:
            hint = nearest(scene_id, scenes)
            problems.append(f"scene {scene_id!r}: the project has no such scene with labels{hint}")
            continue
        scene = scenes[scene_id]
        with open_scene_image(scene.image_files, scene.image) as image:
            grid = image.grid
        current = CurrentLabels(task, scene.label_files, scene.labels, grid, classes, null_id)
        planner = Planner(made, SceneChanges(scene, current))
        for each in mine:
            try:
                planner.add(each)
            except DataError as error:
                problems.append(f"{each}: {error}" if str(each) not in str(error) else str(error))
        made.scenes.append(planner.changes)
    if problems:
        raise DataError("nothing was written, because not all verdicts can be applied:\n  " + "\n  ".join(problems))
    return made
