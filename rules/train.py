"""train: a model from the chips of the training scenes."""

from __future__ import annotations

from collections.abc import Iterator

from rvbuild.learn.trajectory import resume_ignores

from . import own_chips
from .common import (
    Artifact,
    Product,
    Project,
    Source,
    class_names,
    folder,
    name,
    normalize,
    packages,
    resolve,
    seed,
    user_code,
)

VERSION = 3
RUN = "rvbuild.stages.train:run"
CODE = ("rvbuild.stages.train", "rvbuild.tasks.{task}", "rvbuild.learn.*")

#: Settings that change how fast a training runs and not what comes out.
HINTS = ("workers",)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the model."""
    train = project.train.slice()
    weights: tuple[Source, ...] = ()
    if isinstance(train["pretrained"], str):
        weights = (Source("weights", (resolve(project, train["pretrained"]),)),)
        train["pretrained"] = "file"
    hints = {"train": {hint: train.pop(hint) for hint in HINTS}}
    scenes = sorted((s for s in project.scenes if s.split != "test"), key=lambda s: s.id)
    chips = [
        Product(
            f"chips/{scene.split}/{scene.id}",
            name("chip", project.name, scene.id),
            ("index.json", "images-*", "labels-*"),
        )
        for scene in scenes
        if scene.labels is not None
    ]
    if project.train.chips is not None:
        chips = own_chips.products(project, "index.json", "images-*", "labels-*")
    yield Artifact(
        name=name("train", project.name),
        project=project.name,
        stage="train",
        scene=None,
        run=RUN,
        version=VERSION,
        settings={
            "task": project.task,
            "classes": class_names(project),
            "null_id": project.null_id,
            "chip_px": project.chip_px,
            "train": train,
            "seed": seed(project, "train"),
            **normalize(project),
        },
        inputs=(*chips, Product("stats", name("analyze", project.name)), *weights, *user_code(project)),
        folder=folder(project, "train"),
        code=code,
        packages=packages(project),
        hints=hints,
        resource="torch",
        resume_ignores=tuple(f"train.{key}" for key in resume_ignores(train)),
    )
