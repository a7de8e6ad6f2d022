"""bundle: a zip with everything that is needed to predict new imagery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from rvbuild.rules.common import (
    Artifact,
    Demand,
    Product,
    Project,
    Resource,
    Scene,
    classes,
    folder,
    name,
    packages,
    user_code,
)
from rvbuild.rules.infer import model, trained
from rvbuild.settings.image import ImageSettings, LayerSettings
from rvbuild.settings.predict import PredictSettings

if TYPE_CHECKING:
    from rvbuild.stages.bundle.settings import BundleSettings, PortableSettings

VERSION = 4
RUN = "rvbuild.stages.bundle.write:run"
CODE = ("rvbuild.stages.bundle.write",)
WRITES = ("bundle.zip",)

WITH_ONNX = 2
"""The version of what bundles with ONNX hold besides: others stay when it is raised."""


def settings(project: Project) -> BundleSettings[PredictSettings]:
    """Return the settings of a prediction with the bundle."""
    first, chips = _first(project), project.train.chips
    return {
        "task": project.task,
        "image": {"nodata": None} if first is None else _image(first),
        "channels": first.channels if first else chips.channels if chips else None,
        "classes": classes(project),
        "null_id": project.null_id,
        "chip_px": project.chip_px,
        "predict": project.predict.stage_settings(),
    }


def _first(project: Project) -> Scene | None:
    """Return the scene whose images are read as those of new scenes are to be; None if there is no scene."""
    scenes = [s for s in project.scenes if s.split == "train" or project.train.chips is not None]
    return min(scenes, key=lambda s: s.id, default=None)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the bundle."""
    first, onnx = _first(project), project.file.bundle.onnx
    yield Artifact(
        name=name("bundle", project.name),
        project=project.name,
        stage="bundle",
        scene=None,
        run=RUN,
        version=VERSION,
        settings={**settings(project), "onnx": about(project)} if onnx else settings(project),
        inputs=(
            model(project),
            Product("stats", name("analyze", project.name)),
            *([Product("log", name("train", project.name), ("log.jsonl",))] if onnx else []),
            # The source texts are packed, including comments.
            *(replace(code, digests=()) for code in user_code(project, *([first] if first else []))),
        ),
        folder=folder(project, "bundle"),
        rename={"bundle.zip": f"{project.title}.zip"},
        code=code,
        packages=packages(project),
        hints={"trained": trained(project)},
        writes=WRITES,
        resource=Resource.TORCH if onnx else Resource.CPU,
        demand=Demand(cores=None) if onnx else Demand(),
    )


def about(project: Project) -> PortableSettings:
    """Return what the description of the model tells of its training."""
    train = project.train.stage_settings()
    given: Literal["file", "bundle"] = "bundle" if project.train.bundle is not None else "file"
    pretrained = train["pretrained"]
    splits = Counter(scene.split for scene in project.scenes)
    portable: PortableSettings = {
        "version": WITH_ONNX,
        "splits": {split: splits[split] for split in ("train", "validation", "test") if splits[split]},
        "start": given if isinstance(pretrained, str) else "torchvision" if pretrained else "random",
        "select": train["select"],
        "select_metric": train["select_metric"],
    }
    if "ema" in train:
        portable["ema"] = train["ema"]
    return portable


def _image(scene: Scene) -> ImageSettings:
    """Return the settings to read new images: those of `scene`, for a whole image, with one file per layer."""
    settings = scene.image.stage_settings()
    settings.pop("bbox", None)
    if "layers" in settings:
        settings["layers"] = _one_file_each(settings["layers"])
    return settings


def _one_file_each(layers: Sequence[LayerSettings]) -> list[LayerSettings]:
    """Return layers of one file each, and times of one file for each of their bands."""
    return [
        {**layer, "layers": _one_file_each(layer["layers"])} if "layers" in layer else {**layer, "files": 1}
        for layer in layers
    ]
