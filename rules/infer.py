"""infer: apply the model to each validation and test scene.

Its outputs are in the directory of predict, which derives all other files from them: one directory holds everything
about a scene. A large scene may be predicted in strips, which are joined here (`rvbuild.rules.predictions.strips`).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import (
    Artifact,
    Demand,
    Product,
    Project,
    Resource,
    Scene,
    aoi,
    area,
    class_ids,
    class_names,
    folder,
    image,
    image_settings,
    name,
    once,
    packages,
    present,
    user_code,
)
from rvbuild.rules.predictions.layout import hints, parts, strips_of
from rvbuild.settings.train import TrainedSettings

if TYPE_CHECKING:
    from rvbuild.settings.train import TrainedSettings
    from rvbuild.stages.infer import InferStageSettings
    from rvbuild.stages.names import ExportedEngine

VERSION = 4
RUN = "rvbuild.stages.infer:run"
RUN_JOIN = "rvbuild.stages.strips:run_join"
CODE = ("rvbuild.stages.infer", "rvbuild.stages.strips", "{task}", "rvbuild.learn.*")
WRITES = ("raw_*", "cells.json", "scores.tif")


def model(project: Project) -> Product:
    """Return the trained model as an input."""
    return Product("model", name("train", project.name), ("model.safetensors", "model.json"))


def engine(project: Project) -> ExportedEngine | None:
    """Return the engine that computes the exported network; None: torch, or a training backend.

    It is the same on every machine: "auto" asks what the project says, and never what is installed.
    """
    return once(project, "engine", lambda: _engine(project))


def _engine(project: Project) -> ExportedEngine | None:
    chosen = project.predict.engine
    if project.train.backend is not None or chosen == "torch":
        return None
    if chosen != "auto":
        return chosen
    # Others might not be exportable, and a GPU is faster.
    exportable = project.train.stage_settings()["model"] in SPECS[project.task].models
    return "openvino" if exportable and not project.predict.device.startswith("cuda") else None


def engine_packages(project: Project) -> dict[str, str]:
    """Return the version of the engine, which can change the last digits of scores; empty for torch.

    If it is not installed, the checks before a build say so.
    """
    chosen = engine(project)
    return {} if chosen is None else once(project, ("version of", chosen), lambda: _installed(chosen))


def _installed(engine: ExportedEngine) -> dict[str, str]:
    for distribution in (engine, f"{engine}-gpu"):
        try:
            return {distribution: metadata.version(distribution)}
        except metadata.PackageNotFoundError:
            continue
    return {}


def trained(project: Project) -> TrainedSettings:
    """Return the model that the project names: a trained model's description cannot select another user function."""
    return once(project, "trained", lambda: _trained(project))


def _trained(project: Project) -> TrainedSettings:
    if project.train.backend is not None:
        return {"model": project.train.backend, "model_args": project.train.backend_args}
    train = project.train.stage_settings()
    return {"model": train["model"], "model_args": train["model_args"]}


def scenes(project: Project) -> list[Scene]:
    """Return the scenes that are predicted, by id."""
    return sorted((s for s in project.scenes if s.split != "train"), key=lambda s: s.id)


def network(project: Project) -> tuple[Product, ...]:
    """Return the model and, for an engine, the exported network as inputs."""
    if engine(project) is None:
        return (model(project),)
    return (
        Product("model", name("train", project.name), ("model.json",)),
        Product("network", name("export", project.name), ("model.onnx", "model.onnx.data")),
    )


def needs(project: Project) -> tuple[Resource, Demand]:
    """Return the resource and the demand of a stage that runs the model."""
    # Only onnxruntime computes an exported network on a GPU, and only if the project names one.
    exported_by, device = engine(project), project.predict.device
    on_torch = project.train.backend is None and exported_by is None
    on_gpu = on_torch or (exported_by == "onnxruntime" and device.startswith("cuda"))
    return Resource.TORCH if on_torch else Resource.CPU, Demand(cores=None, device=device if on_gpu else "cpu")


def settings_of_scene(project: Project, scene: Scene) -> InferStageSettings:
    """Return the settings to predict `scene`."""
    settings: InferStageSettings = {
        "task": project.task,
        "image": image_settings(project, scene),
        "channels": scene.channels,
        "classes": class_names(project) if project.predict.writes_scores() else class_ids(project),
        "null_id": project.null_id,
        "chip_px": project.chip_px,
        "predict": once(project, "predict settings of infer", project.predict.infer_settings),
    }
    if limits := area(project, scene).get("area"):
        settings["area"] = limits
    if (exported_by := engine(project)) is not None:
        settings["engine"] = exported_by
    return settings


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the raw predictions of every validation and test scene."""
    resource, demand = needs(project)
    for scene in scenes(project):
        strips = strips_of(project, scene)
        yield Artifact(
            name=name("infer", project.name, scene.id),
            project=project.name,
            stage="infer",
            scene=scene.id,
            run=RUN_JOIN if strips else RUN,
            version=VERSION,
            settings=settings_of_scene(project, scene),
            inputs=present(
                image(project, scene),
                aoi(project, scene),
                *network(project),
                *user_code(project, scene),
                *parts(project, scene, strips),
            ),
            folder=folder(project, "predict", scene.id),
            code=code,
            packages={**packages(project), **engine_packages(project)},
            hints={"trained": trained(project), **hints(strips)},
            writes=WRITES,
            resource=Resource.CPU if strips else resource,
            demand=Demand() if strips else demand,
        )
