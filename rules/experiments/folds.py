"""folds: what the models of all folds give together: maps, metrics, and the mean of their weights.

Only built by `rvbuild folds`: the folds are variants of the project, and these artifacts read theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rvbuild.engine.keys.artifact import digest
from rvbuild.project.tasks import SPECS
from rvbuild.rules import infer, predict
from rvbuild.rules.common import Artifact, Product, Project, classes, folder, name, packages, raw_files

if TYPE_CHECKING:
    from rvbuild.stages.folds.summary import SummarySettings
    from rvbuild.tasks.settings import DeriveSettings

STAGE, MAPS = "folds", "maps"
VERSION = 1
RUN_MAP = "rvbuild.stages.folds.maps:run"
RUN_SUMMARY = "rvbuild.stages.folds.summary:run"
RUN_SOUP = "rvbuild.stages.folds.soup:run"
CODE = (
    "rvbuild.stages.folds.maps",
    "rvbuild.stages.folds.summary",
    "rvbuild.stages.folds.soup",
    "{task}",
    "rvbuild.learn.*",
)
WRITES_MAP = tuple(dict.fromkeys((*infer.WRITES, *predict.WRITES)))
WRITES_SUMMARY = ("folds.json", "folds.md")
WRITES_SOUP = ("model.safetensors", "model.json", "log.jsonl")
_OF_TRAINING = ("chips/train/", "pixels/train/", "stats", "code")
"""The beginnings of the roles of a training that the mean of weights reads as well."""


def scene_map(project: Project, scene: str, inferred: Sequence[str], code: str) -> Artifact:
    """Return the out-of-fold map of a scene.

    Parameters
    ----------
    project
        The project of the file.
    scene
        The id of the scene in the file.
    inferred
        The artifacts of infer, by fold, that predict parts of it.
    code
        The digest of the code of these stages.
    """
    settings: DeriveSettings = {
        "task": project.task,
        "classes": classes(project),
        "null_id": project.null_id,
        "predict": project.predict.derive_settings(),
    }
    raw = raw_files(project)
    raster = SPECS[project.task].score_raster
    if raster and project.predict.stage_settings().get("scores"):
        raw = (*raw, raster)
    return Artifact(
        name=name(STAGE, project.name, scene),
        project=project.name,
        stage=STAGE,
        scene=scene,
        run=RUN_MAP,
        version=VERSION,
        settings=settings,
        inputs=tuple(Product(f"raw/{number:03}", made, raw) for number, made in enumerate(inferred)),
        folder=folder(project, STAGE, MAPS, scene),
        code=code,
        packages=packages(project),
        writes=WRITES_MAP,
    )


def summary(project: Project, evaluations: Sequence[str], code: str) -> Artifact:
    """Return the metrics of all folds, from their evaluations by fold."""
    settings: SummarySettings = {"folds": len(evaluations)}
    return Artifact(
        name=name(STAGE, project.name),
        project=project.name,
        stage=STAGE,
        scene=None,
        run=RUN_SUMMARY,
        version=VERSION,
        settings=settings,
        inputs=tuple(Product(f"eval/{fold}", made, ("eval.json",)) for fold, made in enumerate(evaluations)),
        folder=folder(project, STAGE),
        code=code,
        packages=packages(project),
        writes=WRITES_SUMMARY,
    )


def soup(training: Artifact, models: Sequence[str], code: str) -> Artifact:
    """Return the mean of the weights of models, in place of a training.

    Parameters
    ----------
    training
        A training on all that the models have learned from; its chips measure the batch normalisation.
    models
        The trainings of the models, by fold.
    code
        The digest of the code of these stages.
    """
    inputs = tuple(item for item in training.inputs if item.role.startswith(_OF_TRAINING))
    folds = tuple(Product(f"model/{n:03}", made, ("model.safetensors", "model.json")) for n, made in enumerate(models))
    return replace(
        training,
        run=RUN_SOUP,
        version=VERSION,
        inputs=(*inputs, *folds),
        code=digest([training.code, code]),
        rename={},
        live="",
        resume_ignores=None,
        writes=WRITES_SOUP,
    )
