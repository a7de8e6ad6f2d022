"""Encoders of segmentation models, by name."""

from __future__ import annotations

from rvbuild.errors import nearest
from rvbuild.project.networks import TIMM, TORCHVISION, olmoearth, timm
from rvbuild.project.tasks.classification import TORCHVISION as CLASSIFIERS
from rvbuild.project.toml.keys import show

_FAMILIES = ("mobilenet_v2", "mobilenet_v3", "resnet", "resnext", "wide_resnet", "efficientnet", "convnext", "densenet")
"""How the names of torchvision's networks begin that can be encoders: layers that are applied one after the other."""

OF_TORCHVISION = tuple(TORCHVISION + name for name in CLASSIFIERS if name.startswith(_FAMILIES))
"""The encoders of torchvision."""


def encoder_problem(name: str) -> str | None:
    """Return why a name is not that of an encoder, or None.

    >>> encoder_problem("torchvision/resnet81")
    'unknown encoder "torchvision/resnet81"; did you mean "torchvision/resnet18"?'
    """
    if name.startswith(TIMM):
        return timm.problem(name, encoder=True)
    if name.startswith(olmoearth.PREFIX):
        return olmoearth.problem(name)
    if name in OF_TORCHVISION:
        return None
    hint = nearest(name, OF_TORCHVISION)
    if not hint:
        twins = [full for full in (TIMM + name, TORCHVISION + name) if full in OF_TORCHVISION or _is_of_timm(full)]
        hint = f"; did you mean {' or '.join(map(show, twins))}?" if twins else ""
    return f'unknown encoder "{name}"' + (
        hint or '; expected "timm/NAME" or "torchvision/NAME"; `rvbuild models` lists the names'
    )


def has_weights(encoder: str) -> bool:
    """Tell whether there are pretrained weights of an encoder, or of a classifier of timm."""
    return not encoder.startswith(TIMM) or bool(timm.find(encoder).weights)


def _is_of_timm(name: str) -> bool:
    return name.startswith(TIMM) and timm.problem(name, encoder=True) is None
