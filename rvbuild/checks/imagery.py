"""Checks of what settings need of the imagery: its type, and the number of its bands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project, Scene
from rvbuild.project.tasks.augmentations import AUGMENTATIONS
from rvbuild.rules import infer

Facts = Mapping[str, Any]


def findings(project: Project, scenes: Sequence[Scene], images: Mapping[str, Facts]) -> Iterator[Finding]:
    """Yield settings that the imagery does not allow.

    Parameters
    ----------
    project, scenes
        The project, and those of its scenes that were checked.
    images
        Scene id → the facts about its image.
    """
    yield from _figures(project, scenes, images)
    kinds = {(image["dtype"], image["bands"]) for image in images.values()}
    if len(kinds) != 1 or any(scene.image.modules() for scene in scenes):
        return  # contradictions are reported, and the user's own code may change both
    ((dtype, bands),) = kinds
    yield from _augmentations(project, dtype, bands)
    yield from _engine(project, dtype)


def _augmentations(project: Project, dtype: str, bands: int) -> Iterator[Finding]:
    """Report augmentations of other imagery."""
    if project.train.backend is not None:
        return
    for name in project.train.augment:
        if name in AUGMENTATIONS and (problem := AUGMENTATIONS[name].misfit(dtype, bands)):
            yield Finding(Level.ERROR, "train.augment", problem, key=("train", "augment"))


def _engine(project: Project, dtype: str) -> Iterator[Finding]:
    """Report an engine that cannot hold the values of the imagery."""
    engine = infer.engine(project)
    if engine is None:
        return
    from rvbuild.stages.engines.fits import misfit  # it imports numpy

    if problem := misfit(engine, dtype):
        text = f'{problem}; use "onnxruntime" or "torch"'
        yield Finding(Level.ERROR, "predict.engine", text, key=("predict", "engine"))


def _figures(project: Project, scenes: Sequence[Scene], images: Mapping[str, Facts]) -> Iterator[Finding]:
    """Report `normalize` for values from 0 to 1 if the range of values is unknown, or the number of bands differs."""
    train, key = project.train, ("train", "normalize")
    if train.normalize == "auto" or (train.normalize == "pretrained" and train.bundle is not None):
        return
    dtypes = sorted({image["dtype"] for image in images.values()} - {"uint8"})
    if dtypes and not all(scene.image.normalize() for scene in scenes):
        text = (
            f"applies to values from 0 to 1, but {' and '.join(dtypes)} imagery has no fixed range; scale it to 0 to 1 "
            'with image.transform = [{ kind = "min_max" }] or "percentile", or remove the key'
        )
        yield Finding(Level.ERROR, "train.normalize", text, key=key)
    bands = sorted({image["bands"] for image in images.values()})
    if not isinstance(train.normalize, str) and bands not in ([], [len(train.normalize.mean)]):
        text = f"has values for {len(train.normalize.mean)} bands, but the imagery has {bands[0]}"
        yield Finding(Level.ERROR, "train.normalize", text, key=key)
