"""predict: all files of a predicted scene that are derived from the raw result, without the network."""

from __future__ import annotations

from collections.abc import Iterator

from rvbuild.files.formats import SUFFIXES
from rvbuild.rules.common import (
    Artifact,
    Product,
    Project,
    classes,
    folder,
    name,
    packages,
    present,
    raw_files,
    scores,
)

VERSION = 6
RUN = "rvbuild.stages.predict:run"
CODE = ("rvbuild.stages.predict", "{task}")
WRITES = ("*.tif", "*.json", *(f"*{suffix}" for suffix in SUFFIXES.values()), "*.qml")


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the predictions of every validation and test scene."""
    settings = project.predict.derive_settings()
    for scene in sorted((s for s in project.scenes if s.split != "train"), key=lambda s: s.id):
        yield Artifact(
            name=name("predict", project.name, scene.id),
            project=project.name,
            stage="predict",
            scene=scene.id,
            run=RUN,
            version=VERSION,
            settings={
                "task": project.task,
                "classes": classes(project),
                "null_id": project.null_id,
                "predict": settings,
            },
            inputs=present(
                Product("raw", name("infer", project.name, scene.id), raw_files(project)),
                scores(project, scene) if settings.get("vectors") else None,
            ),
            folder=folder(project, "predict", scene.id),
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
