"""train: a model from the chips of the training scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rvbuild.learn.trajectory import resume_ignores
from rvbuild.rules.common import (
    Artifact,
    Demand,
    Product,
    Project,
    Scene,
    Source,
    class_names,
    folder,
    image,
    image_settings,
    images_code,
    name,
    normalize,
    packages,
    resolve,
    seed,
    stores_images,
    user_code,
)
from rvbuild.rules.inputs import own_chips

if TYPE_CHECKING:
    from rvbuild.settings.image import SceneImageSettings
    from rvbuild.stages.train.settings import TrainHints, TrainStageSettings

VERSION = 4
RUN = "rvbuild.stages.train.stage:run"
CODE = ("rvbuild.stages.train.stage", "{task}", "rvbuild.learn.*")
WRITES = ("model.safetensors", "model.json", "log.jsonl", "curves.svg")

KEYED, IMAGES = ("index.json", "labels-*"), ("images-*",)
"""The inputs of training are the labels of chips, which hold the digests of their pixels: these do not depend on where
the pixels are read from."""


def _checkpoints(project: Project) -> dict[str, str]:
    """Return the directory of the models of single epochs."""
    names = (f"epoch-{epoch:03}.safetensors" for epoch in range(1, project.train.epochs + 1))
    return {name: f"checkpoints/{name}" for name in names}


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the model."""
    train = project.train.stage_settings()
    weights: tuple[Source, ...] = ()
    if isinstance(train["pretrained"], str):
        weights = (Source("weights", (resolve(project, train["pretrained"]),)),)
        train["pretrained"] = "bundle" if project.train.bundle is not None else "file"
    hints: TrainHints = {"train": {"workers": train.pop("workers")}}
    scenes = sorted((s for s in project.scenes if s.split != "test"), key=lambda s: s.id)
    chips: list[Source | Product] = []
    pixels: dict[str, SceneImageSettings] = {}
    unread: list[Scene] = []
    for scene in scenes:
        if scene.labels is None or (scene.split == "validation" and not project.train.validation):
            continue
        part, made = f"{scene.split}/{scene.id}", name("chip", project.name, scene.id)
        if stores_images(project, scene):
            chips.append(Product(f"chips/{part}", made, KEYED, IMAGES))
            continue
        chips.append(Product(f"chips/{part}", made, KEYED))
        chips.append(replace(image(project, scene), role=f"pixels/{part}", in_key=False))
        unread += [scene]
        pixels[part] = {"image": image_settings(project, scene), "channels": scene.channels}
    if project.train.chips is not None:
        own = own_chips.products(project, *KEYED, unkeyed=IMAGES)
        chips += [part for part in own if project.train.validation or part.role.startswith("chips/train/")]
    if pixels:
        hints["pixels"] = pixels
        # Pixels outside of the key are transformed by code outside of the key.
        chips += [
            replace(code, role="code/pixels", in_key=False, passed=False) for code in images_code(project, unread)
        ]
    checkpoints = _checkpoints(project)
    settings: TrainStageSettings = {
        "task": project.task,
        "classes": class_names(project),
        "null_id": project.null_id,
        "chip_px": project.chip_px,
        "train": train,
        "seed": seed(project, "train"),
        **normalize(project),
    }
    yield Artifact(
        name=name("train", project.name),
        project=project.name,
        stage="train",
        scene=None,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=(*chips, Product("stats", name("analyze", project.name)), *weights, *user_code(project)),
        folder=folder(project, "train"),
        rename=checkpoints,
        code=code,
        packages=packages(project),
        writes=(*WRITES, *checkpoints) if project.train.checkpoints else WRITES,
        hints=hints,
        resource="torch",
        demand=Demand(cores=project.train.threads, device=project.train.device),
        resume_ignores=tuple(f"train.{key}" for key in resume_ignores(train["schedule"])),
    )
