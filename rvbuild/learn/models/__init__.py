"""The models by name: one registry; each family is one file that exports `NAMES` and `build`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from torch import nn

from rvbuild.errors import ModelError, nearest
from rvbuild.learn.models import (
    cnn,
    ensemble,
    smp_segmentation,
    timm_classification,
    torchvision_classification,
    torchvision_segmentation,
    unet,
    user,
)
from rvbuild.learn.models.bands import ARGUMENTS, with_names
from rvbuild.learn.models.detectors import encoded, named
from rvbuild.learn.steps.encoder import Encoder
from rvbuild.settings.train import Arguments

FAMILIES: Mapping[str, tuple[ModuleType, ...]] = {
    "chip_classification": (torchvision_classification, cnn),
    "object_detection": (named,),
    "semantic_segmentation": (torchvision_segmentation, unet),
}
"""The families that can do each task; each has `build(name, *, bands, outputs, args, pretrained, note)` and
`encoder(model)`."""

WITH_ENCODER: Mapping[str, ModuleType] = {"object_detection": encoded, "semantic_segmentation": smp_segmentation}
"""The family of each task whose models take an encoder; `build` also has `chip_px`."""


def _say_nothing(message: str) -> None:
    pass


def names(task: str) -> tuple[str, ...]:
    """Return the names of the built-in models of a task."""
    return tuple(name for family in FAMILIES.get(task, ()) for name in family.NAMES)


def build(
    task: str,
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path = False,
    code: Mapping[str, str] | None = None,
    note: Callable[[str], None] = _say_nothing,
    chip_px: int | None = None,
) -> nn.Module:
    """Make a model.

    Parameters
    ----------
    task
        For example `"semantic_segmentation"`.
    name
        A name of `names(task)`, a decoder if `args` names an encoder, `"timm/NAME"` for a classifier, or
        `"package.module:factory"` of the workspace.
    bands
        Bands of the imagery: the model takes `(N, bands, H, W)` float32.
    outputs
        Number of classes without null; a segmentation model returns `(N, outputs, h, w)`, one of chips `(N, outputs)`.
    args
        `train.model_args`.
    pretrained
        False: random weights. True: the weights of the package, where the family has some. A path: weights from a file.
    code
        Source code of the user's modules, to execute instead of importing them.
    note
        Receives notes for the user, for example that a model has no pretrained weights.
    chip_px
        The side of chips, for networks that are made for one; None if it is unknown.

    Raises
    ------
    ModelError
        The name, an argument, the code or the weights cannot be used.
    """
    if ":" in name:
        return user.build(name, bands=bands, outputs=outputs, args=args, pretrained=pretrained, note=note, code=code)
    if scales := ensemble.scales_of(args):
        return ensemble.Ensemble(
            lambda scale: build(
                task,
                name,
                bands=bands,
                outputs=outputs,
                args=_of_member(args),
                pretrained=pretrained,
                note=note,
                chip_px=None if chip_px is None else round(chip_px * scale),
            ),
            scales,
        )
    bands = with_names(bands, args, pretrained)
    args = {key: value for key, value in args.items() if key not in ARGUMENTS}
    chosen = _with_encoder(task, name, args)
    if chosen is not None:
        network: nn.Module = chosen.build(
            name, bands=bands, outputs=outputs, args=args, pretrained=pretrained, note=note, chip_px=chip_px
        )
        return network
    for family in FAMILIES.get(task, ()):
        if name in family.NAMES:
            model: nn.Module = family.build(
                name, bands=bands, outputs=outputs, args=args, pretrained=pretrained, note=note
            )
            return model
    valid = names(task)
    raise ModelError(
        f'train.model: there is no model "{name}" for {task}{nearest(name, valid)}; the models are {", ".join(valid)}, '
        f'or a factory of your own as "package.module:factory"'
    )


def encoder_of(task: str, name: str, args: Arguments, model: nn.Module) -> Encoder:
    """Return the encoder of a model that `build` made.

    Raises
    ------
    ModelError
        The model is the user's own, and does not tell its encoder.
    """
    if ":" in name:
        return user.encoder(model)
    if ensemble.ARGUMENT in args:
        single = _of_member(args)
        return ensemble.encoder(model, lambda member: encoder_of(task, name, single, member))
    families = [_with_encoder(task, name, args), *(f for f in FAMILIES.get(task, ()) if name in f.NAMES)]
    found: Encoder = next(family for family in families if family is not None).encoder(model)
    return found


def _of_member(args: Arguments) -> Arguments:
    """Return the arguments of a member of an ensemble."""
    return {key: value for key, value in args.items() if key != ensemble.ARGUMENT}


def _with_encoder(task: str, name: str, args: Arguments) -> ModuleType | None:
    """Return the family of a model whose network another package has, or None."""
    family = WITH_ENCODER.get(task)
    if family is not None and "encoder" in args and name in family.NAMES:
        return family
    return timm_classification if task == "chip_classification" and timm_classification.is_named(name) else None
