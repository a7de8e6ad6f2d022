"""suspects: labels that are probably wrong, by linear models that have not seen them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    Source,
    aoi,
    area,
    class_names,
    folder,
    label_classes,
    label_settings,
    labels,
    name,
    packages,
    resolve,
    seed,
)
from rvbuild.rules.drafts.features import features
from rvbuild.rules.drafts.sums import labelled, totals

if TYPE_CHECKING:
    from rvbuild.stages.review.settings import ReviewedScene, SuspectsSettings

VERSION = 4
RUN = "rvbuild.stages.review.suspects:run"
CODE = ("rvbuild.stages.review.suspects", "{task}")
WRITES = ("suspects.json",)

OF_MAPS = ("folds", "maps")
"""The folder of the maps of `rvbuild folds`."""

MOST_MADE = 600
"""Labels that errors are made of on purpose, to learn what errors look like."""


def _model_scores(project: Project, scene: Scene) -> Source | Product | None:
    """Return scores of models that have not learned from the scene, or from the blocks of this part of it.

    Those of the map by folds, where there is one; else those of the trained model, which has not learned from
    validation and test scenes.
    """
    file = SPECS[project.task].reviewed
    path = resolve(project, folder(project, *OF_MAPS, scene.base, file))
    if path.is_file():
        return Source("scores", (path,))
    return Product("scores", name("infer", project.name, scene.id), (file,)) if scene.split != "train" else None


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the suspects of all scenes."""
    scenes = labelled(project)
    if not scenes:
        return
    inputs: list[Source | Product] = [totals(project, scene) for scene in scenes]
    of_scenes: list[ReviewedScene] = []
    for scene in scenes:
        inputs.append(dataclasses.replace(features(project, scene), role=f"features/{scene.id}"))
        model = _model_scores(project, scene) if project.file.review.model else None
        for source in (labels(project, scene), aoi(project, scene), model):
            if source is not None:
                inputs.append(dataclasses.replace(source, role=f"{source.role}/{scene.id}"))
        of_scenes.append(
            {
                "scene": scene.id,
                "labels": label_settings(project, scene),
                "classes": label_classes(project, scene),
                "seed": seed(project, f"suspects:{scene.id}"),
                **area(project, scene),
            }
        )
    settings: SuspectsSettings = {
        "task": project.task,
        "classes": class_names(project),
        "null_id": project.null_id,
        "background": SPECS[project.task].one_class_is_enough,
        "scenes": of_scenes,
        "most_made": MOST_MADE,
    }
    yield Artifact(
        name=name("suspects", project.name),
        project=project.name,
        stage="suspects",
        scene=None,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=tuple(inputs),
        folder=folder(project, "suspects"),
        code=code,
        packages=packages(project),
        writes=WRITES,
    )
