"""train: a model from the chips of the training scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from rvbuild.cores import thread_count
from rvbuild.engine.run.machine import card_count
from rvbuild.errors import UsageError
from rvbuild.learn.trajectory import resume_ignores
from rvbuild.project.tasks.augmentations import AUGMENTATIONS
from rvbuild.rules.common import (
    Artifact,
    Demand,
    Product,
    Project,
    Resource,
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
    from rvbuild.settings.chip import ShownBoxes
    from rvbuild.settings.train import TrainSettings
    from rvbuild.stages.train.settings import BackendStageSettings, Pixels, TrainStageSettings

VERSION = 4
RUN = "rvbuild.stages.train.stage:run"
RUN_BACKEND = "rvbuild.stages.train.backend:run"
CODE = ("rvbuild.stages.train.stage", "rvbuild.stages.train.backend", "{task}", "rvbuild.learn.*")
WRITES_BACKEND = ("model.safetensors", "model.json")
WRITES = (*WRITES_BACKEND, "log.jsonl", "curves.svg")

KEYED, IMAGES = ("index.json", "labels-*"), ("images-*",)
"""The inputs of training are the labels of chips, which hold the digests of their pixels: these do not depend on where
the pixels are read from."""


def _checkpoints(project: Project) -> dict[str, str]:
    """Return the directory of the models of single epochs."""
    names = (f"epoch-{epoch:03}.safetensors" for epoch in range(1, project.train.epochs + 1))
    return {name: f"checkpoints/{name}" for name in names}


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the model."""
    chips, pixels = _chips(project)
    make = _of_torch if project.train.backend is None else _with_backend
    yield make(project, chips, pixels, code)


def _chips(project: Project) -> tuple[list[Source | Product], Pixels]:
    """Return the chips as inputs, and how images are opened that chips do not have, by split and scene."""
    chips: list[Source | Product] = []
    pixels: Pixels = {}
    unread: list[Scene] = []
    for scene in sorted((s for s in project.scenes if s.split != "test"), key=lambda s: s.id):
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
        # Pixels outside of the key are transformed by code outside of the key.
        chips += [
            replace(code, role="code/pixels", in_key=False, passed=False) for code in images_code(project, unread)
        ]
    return chips, pixels


def _with_backend(project: Project, chips: list[Source | Product], pixels: Pixels, code: str) -> Artifact:
    """Return the model that a training backend makes."""
    settings: BackendStageSettings = {
        "task": project.task,
        "classes": class_names(project),
        "null_id": project.null_id,
        "chip_px": project.chip_px,
        "train": project.train.backend_settings(),
        "seed": seed(project, "train"),
    }
    return Artifact(
        name=name("train", project.name),
        project=project.name,
        stage="train",
        scene=None,
        run=RUN_BACKEND,
        version=VERSION,
        settings=settings,
        inputs=(*chips, *user_code(project)),
        folder=folder(project, "train"),
        code=code,
        packages=packages(project),
        writes=WRITES_BACKEND,
        hints={"pixels": pixels} if pixels else {},
        demand=Demand(cores=None),
    )


def _of_torch(project: Project, chips: list[Source | Product], pixels: Pixels, code: str) -> Artifact:
    """Return the model that torch trains."""
    train = project.train.stage_settings()
    weights: tuple[Source, ...] = ()
    if project.train.weights is not None:
        weights = (Source("weights", (resolve(project, project.train.weights),)),)
        train["pretrained"] = "bundle" if project.train.bundle is not None else "file"
        if project.train.weights_member is not None:
            train["weights_member"] = project.train.weights_member
    in_no_key: dict[str, object] = {"workers": train.pop("workers")}
    if (log := train.pop("log", None)) is not None:
        in_no_key["log"] = log
    processes = 1
    if train.get("shards", 1) > 1:
        in_no_key["processes"] = processes = _processes_of(train, project.train.device)
    hints: dict[str, Mapping[str, object]] = {"train": in_no_key}
    if pixels:
        hints["pixels"] = pixels
    checkpoints = _checkpoints(project)
    settings: TrainStageSettings = {
        "task": project.task,
        "classes": class_names(project),
        "null_id": project.null_id,
        "chip_px": project.chip_px,
        "train": train,
        "seed": seed(project, "train"),
    }
    if (step := normalize(project).get("normalize")) is not None:
        settings["normalize"] = step
    if (boxes := _shown_boxes(project)) is not None:
        settings["boxes"] = boxes
    return Artifact(
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
        resource=Resource.TORCH,
        demand=_demand(train, project.train.device, processes),
        live=folder(project, "live", "log.jsonl"),
        resume_ignores=tuple(f"train.{key}" for key in resume_ignores(train["schedule"])),
    )


def _threads_of(train: TrainSettings) -> int:
    """Return the threads of each process of a training in shards; they do not depend on the number of processes."""
    return train.get("threads") or max(1, thread_count() // train["shards"])


def _processes_of(train: TrainSettings, device: str) -> int:
    """Return how many processes compute the shards by default: as many as this machine has cores or GPUs for."""
    kind, _, number = device.partition(":")
    cards = 0 if kind == "cpu" else card_count()
    if cards:
        return 1 if number else min(train["shards"], cards)
    return max(1, min(train["shards"], thread_count() // _threads_of(train)))


def _demand(train: TrainSettings, device: str, processes: int) -> Demand:
    """Return what a training by so many processes needs; the device is that of the project, with its number."""
    if train.get("shards", 1) == 1:
        return Demand(cores=train.get("threads"), device=device)
    return Demand(cores=_threads_of(train), device=device, processes=processes)


def with_processes(artifact: Artifact, processes: int | None, on_cluster: bool) -> Artifact:
    """Return an artifact that is computed by so many processes, if it is a training.

    Parameters
    ----------
    artifact
        Of any stage.
    processes
        Their number. None: as many as this machine has cores or GPUs for, or on a cluster one for each shard, if it has
        slots for as many.
    on_cluster
        Whether workers of a cluster compute, which have GPUs of their own.

    Raises
    ------
    UsageError
        It has fewer shards, or this machine fewer GPUs.
    """
    settings = artifact.settings.get("train")
    if artifact.stage != "train" or not isinstance(settings, dict) or (processes is None and not on_cluster):
        return artifact
    shards, device = settings.get("shards", 1), artifact.demand.device
    if processes is None:
        processes = 1 if ":" in device else shards
    cards = card_count()
    if processes > 1 and (":" in device or (not on_cluster and device != "cpu" and 0 < cards < processes)):
        there = f"train.device of {artifact.project} is {device}" if ":" in device else f"there are {cards}"
        raise UsageError(f"--procs {processes}: each process needs a GPU of its own, and {there}; give another number")
    if processes > shards:
        has = "is not set" if shards == 1 else f"is {shards}"
        raise UsageError(
            f"--procs {processes}: train.shards of {artifact.project} {has}, and each process needs a shard; set "
            f"shards = {processes} in [train], which trains again, or "
            + ("leave --procs out" if shards == 1 else f"give at most --procs {shards}")
        )
    if shards == 1:
        return artifact
    hints = {**artifact.hints, "train": {**artifact.hints["train"], "processes": processes}}
    return replace(artifact, hints=hints, demand=_demand(cast("TrainSettings", settings), device, processes))


def _shown_boxes(project: Project) -> ShownBoxes | None:
    """Return which boxes a part of a chip shows, if there are boxes, and an augmentation makes parts of chips."""
    chip = project.chip.stage_settings()
    resized = any(name in AUGMENTATIONS and AUGMENTATIONS[name].resizes for name in project.train.augment)
    if "ioa_thresh" not in chip or "clip" not in chip or not resized:
        return None
    return {"ioa_thresh": chip["ioa_thresh"], "clip": chip["clip"]}
