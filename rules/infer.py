"""infer: apply the model to each validation and test scene.

Its outputs are in the directory of predict, which derives all other files from them: one directory holds everything
about a scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import (
    Artifact,
    Demand,
    Product,
    Project,
    aoi,
    area,
    class_ids,
    class_names,
    folder,
    image,
    image_settings,
    name,
    packages,
    present,
    user_code,
)
from rvbuild.settings.train import TrainedSettings

if TYPE_CHECKING:
    from rvbuild.settings.train import TrainedSettings
    from rvbuild.stages.infer import InferStageSettings

VERSION = 3
RUN = "rvbuild.stages.infer:run"
CODE = ("rvbuild.stages.infer", "{task}", "rvbuild.learn.*")
WRITES = ("raw_*", "cells.json", "scores.tif")


def model(project: Project) -> Product:
    """Return the trained model as an input."""
    return Product("model", name("train", project.name), ("model.safetensors", "model.json"))


def trained(project: Project) -> TrainedSettings:
    """Return the model that the project names: a trained model's description cannot select another user function."""
    if project.train.backend is not None:
        return {"model": project.train.backend, "model_args": project.train.backend_args}
    train = project.train.stage_settings()
    return {"model": train["model"], "model_args": train["model_args"]}


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the raw predictions of every validation and test scene."""
    predict = project.predict.infer_settings()
    named = project.predict.writes_scores()
    for scene in sorted((s for s in project.scenes if s.split != "train"), key=lambda s: s.id):
        settings: InferStageSettings = {
            "task": project.task,
            "image": image_settings(project, scene),
            "channels": scene.channels,
            "classes": class_names(project) if named else class_ids(project),
            "null_id": project.null_id,
            "chip_px": project.chip_px,
            "predict": predict,
        }
        if limits := area(project, scene).get("area"):
            settings["area"] = limits
        yield Artifact(
            name=name("infer", project.name, scene.id),
            project=project.name,
            stage="infer",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(image(project, scene), aoi(project, scene), model(project), *user_code(project, scene)),
            folder=folder(project, "predict", scene.id),
            code=code,
            packages=packages(project),
            hints={"trained": trained(project)},
            writes=WRITES,
            resource="torch" if project.train.backend is None else "cpu",
            demand=Demand(cores=None, device=project.predict.device if project.train.backend is None else "cpu"),
        )
