"""check: the checks of each scene before any work starts.

These are not artifacts: results are kept until the size or the times of a file change, or the code of the checks.
A request is the job of a worker; `keys` identifies what its result depends on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from rvbuild.engine.keys.artifact import KeyDigester
from rvbuild.engine.keys.signature import signature
from rvbuild.files.address import is_url
from rvbuild.project.networks import RANDOM
from rvbuild.rules.common import (
    Project,
    Scene,
    Source,
    aoi,
    area,
    chip_settings,
    class_names,
    classes,
    image,
    image_code,
    image_settings,
    label_settings,
    labels,
    resolve,
    user_code,
    without_code,
)
from rvbuild.rules.drafts.features import encoder_settings
from rvbuild.settings.classes import ClassName, ClassSettings
from rvbuild.settings.normalize import StandardSettings
from rvbuild.settings.train import Arguments, of_encoder

if TYPE_CHECKING:
    from rvbuild.learn.encoders.encoder import EncoderSettings
    from rvbuild.stages.data.settings import CheckSettings

__all__ = ["CODE", "backend", "encoder", "keys", "model", "requests", "user_code"]

RUN = "rvbuild.checks.scene:check_scenes"
RUN_SHARED = "rvbuild.checks.ground:shared"
RUN_MEMORY = "rvbuild.checks.memory:measure"
RUN_MODEL = "rvbuild.checks.model:try_out"
RUN_BACKEND = "rvbuild.checks.backend:try_out"
RUN_ENCODER = "rvbuild.checks.encoder:try_out"
CODE = (
    "rvbuild.checks.scene",
    "rvbuild.checks.ground",
    "rvbuild.checks.memory",
    "rvbuild.checks.model",
    "rvbuild.checks.backend",
    "rvbuild.checks.encoder",
    "{task}",
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to check one scene.

    Attributes
    ----------
    scene
        Id of the scene.
    inputs
        The files by role.
    settings
        The settings of a survey, and `split`.
    rests_on
        All files that the result depends on.
    code
        The user's code that the check runs.
    """

    scene: str
    inputs: Mapping[str, tuple[Path, ...]]
    settings: CheckSettings
    rests_on: tuple[Path, ...]
    code: tuple[Source, ...] = ()


class ModelTrial(TypedDict):
    """Arguments of `rvbuild.checks.model.try_out`."""

    task: str
    model: str
    args: Arguments
    chip_px: int
    start: Literal["random", "torchvision", "file", "bundle"]
    path: str | None
    member: str | None
    normalize: Literal["auto", "pretrained"] | StandardSettings
    of_encoder: bool


def model(project: Project) -> ModelTrial:
    """Return the arguments to try out the model, except those that depend on the images."""
    train = project.train.stage_settings()
    weights, bundle = project.train.weights, project.train.bundle
    start: Literal["random", "torchvision", "file", "bundle"]
    start = "torchvision" if train["pretrained"] is True else "random"
    if weights is not None:
        start = "file" if bundle is None else "bundle"
    return {
        "task": project.task,
        "model": train["model"],
        "args": train["model_args"],
        "chip_px": project.chip_px,
        "start": start,
        "path": None if weights is None else str(resolve(project, weights)),
        "member": project.train.weights_member,
        "normalize": train.get("normalize", "auto"),
        "of_encoder": of_encoder(train),
    }


class BackendTrial(TypedDict):
    """Arguments of `rvbuild.checks.backend.try_out`."""

    task: str
    backend: str | None
    args: Arguments
    classes: list[ClassName]
    null_id: int
    chip_px: int


def backend(project: Project) -> BackendTrial:
    """Return the arguments to try out a training backend, except those that depend on the images."""
    return {
        "task": project.task,
        "backend": project.train.backend,
        "args": project.train.backend_args,
        "classes": class_names(project),
        "null_id": project.null_id,
        "chip_px": project.chip_px,
    }


class EncoderTrial(TypedDict):
    """Arguments of `rvbuild.checks.encoder.try_out`, but for the bands of the images."""

    encoder: EncoderSettings
    weights: str | None


def encoder(project: Project) -> EncoderTrial | None:
    """Return the arguments to try out the encoder of drafts; None if there is nothing that could be wrong with it."""
    weights = project.draft.weights
    if project.draft.encoder == RANDOM or (weights is not None and is_url(weights)):
        return None
    return {
        "encoder": encoder_settings(project),
        "weights": None if weights is None else str(resolve(project, weights)),
    }


def keys(requests: Iterable[Request]) -> dict[str, str]:
    """Return a digest for each scene, of the settings and of the paths, sizes and times of the files."""
    digester = KeyDigester()
    digests = {}
    for request in requests:
        files = {role: [*map(str, files)] for role, files in request.inputs.items()}
        signatures = [[str(path), signature(path)] for path in request.rests_on]
        digests[request.scene] = digester.key({"settings": request.settings, "files": files, "signatures": signatures})
    return digests


def requests(project: Project, scenes: Collection[str] | None = None, runs_code: bool = False) -> Iterator[Request]:
    """Yield the requests of all scenes, or of those with the given ids.

    Unless `runs_code`, images are checked in their state before the user's own transforms.
    """
    of_classes = classes(project)
    allow = sorted(project.allow)
    for scene in project.scenes:
        if scenes is None or scene.id in scenes:
            yield _request(project, scene, of_classes, allow, runs_code)


def _request(
    project: Project, scene: Scene, classes: list[ClassSettings], allow: list[str], runs_code: bool
) -> Request:
    code = image_code(project, scene) if runs_code else ()
    sources = [s for s in (image(project, scene), labels(project, scene), aoi(project, scene)) if s is not None]
    settings: CheckSettings = {
        "allow": allow,
        "task": project.task,
        "classes": classes,
        "null_id": project.null_id,
        "chip": chip_settings(project, scene),
        "split": scene.split,
        "image": image_settings(project, scene) if runs_code else without_code(image_settings(project, scene)),
        "channels": scene.channels,
        "labels": None if scene.labels is None else label_settings(project, scene),
        **area(project, scene),
    }
    if not allow:
        del settings["allow"]
    return Request(
        scene=scene.id,
        inputs={source.role: source.files for source in sources},
        settings=settings,
        rests_on=tuple(path for source in (*sources, *code) for path in _files(source)),
        code=code,
    )


def _files(source: Source) -> list[Path]:
    sidecars = (path for each in source.sidecars for path in each)
    return [*source.files, *sidecars, *(path for path, _ in source.ignored_sidecars)]
