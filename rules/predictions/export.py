"""export: the trained network as ONNX, once for all scenes, if another engine than torch predicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import Artifact, Demand, Product, Project, Resource, folder, name, packages, user_code
from rvbuild.rules.infer import engine, engine_packages, model, trained

if TYPE_CHECKING:
    from rvbuild.stages.export import ExportSettings

VERSION = 2
RUN = "rvbuild.stages.export:run"
CODE = ("rvbuild.stages.export", "{task}", "rvbuild.learn.*")
WRITES = ("model.onnx", "model.onnx.data")


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the exported network, if an engine needs it and any scene is predicted."""
    chosen = engine(project)
    if chosen is None or not any(scene.split != "train" for scene in project.scenes):
        return
    settings: ExportSettings = {"engine": chosen}
    yield Artifact(
        name=name("export", project.name),
        project=project.name,
        stage="export",
        scene=None,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=(model(project), Product("stats", name("analyze", project.name)), *user_code(project)),
        folder=folder(project, "export"),
        code=code,
        packages={**packages(project), **engine_packages(project)},
        hints={"trained": trained(project)},
        writes=WRITES,
        resource=Resource.TORCH,
        demand=Demand(cores=None),
    )
