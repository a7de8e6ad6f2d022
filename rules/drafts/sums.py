"""sums: features of each labelled scene by block and class. An edit of labels sums anew the blocks that it touches.

Drafts learn from the sums of training scenes; reviews from all, because they judge no label by a model that knows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    Scene,
    aoi,
    area,
    folder,
    label_classes,
    label_settings,
    labels,
    name,
    packages,
    present,
    seed,
)
from rvbuild.rules.drafts.features import features

if TYPE_CHECKING:
    from rvbuild.stages.draft.settings import SumsSettings

VERSION = 3
RUN = "rvbuild.stages.draft.sums:run"
CODE = ("rvbuild.stages.draft.sums", "{task}")
TOTALS = ("sums.json", "totals.npy", "sample.npy", "unlabelled.npy")
WRITES = ("blocks.json", "row-*.npy", *TOTALS)


def summed(project: Project) -> list[Scene]:
    """Return the training scenes, by id."""
    found = (scene for scene in project.scenes if scene.split == "train" and scene.labels is not None)
    return sorted(found, key=lambda scene: scene.id)


def labelled(project: Project) -> list[Scene]:
    """Return all scenes with labels, by id; none without training scenes among them."""
    found = (scene for scene in project.scenes if scene.labels is not None)
    return sorted(found, key=lambda scene: scene.id) if summed(project) else []


def totals(project: Project, scene: Scene) -> Product:
    """Return what a model is solved from, of a labelled scene, as an input."""
    return Product(f"sums/{scene.id}", name("sums", project.name, scene.id), TOTALS)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the sums of every labelled scene."""
    folds = project.draft.folds
    for scene in labelled(project):
        settings: SumsSettings = {
            "task": project.task,
            "scene": scene.id,
            "labels": label_settings(project, scene),
            "classes": label_classes(project, scene),
            "null_id": project.null_id,
            "background": SPECS[project.task].one_class_is_enough,
            "folds": folds,
            "first_fold": seed(project, f"sums:{scene.id}") % folds,
            **area(project, scene),
        }
        yield Artifact(
            name=name("sums", project.name, scene.id),
            project=project.name,
            stage="sums",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(features(project, scene), labels(project, scene), aoi(project, scene)),
            folder=folder(project, "sums", scene.id),
            code=code,
            packages=packages(project),
            previous_ignores=("labels",),
            writes=WRITES,
        )
