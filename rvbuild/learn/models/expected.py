"""The normalisation that pretrained weights expect: mean and standard deviation of their training images.

Images are three bands (red, green, blue) from 0 to 1.
"""

from __future__ import annotations

from typing import Any

from rvbuild.errors import ModelError
from rvbuild.learn.models import timm_networks
from rvbuild.project.networks import TIMM, TORCHVISION, olmoearth
from rvbuild.settings.train import Arguments

Figures = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each band."""

_HALF: Figures = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_FROM_TENSORFLOW = ("googlenet", "inception_v3")
"""Weights of TensorFlow, for values from -1 to 1: torchvision turns ImageNet's normalisation into that inside these two
networks, and here they are without that step."""


def expected(name: str, args: Arguments | None = None) -> Figures:
    """Return the figures of the weights that a named model starts from.

    Parameters
    ----------
    name, args
        The model, and its arguments, which may name an encoder.

    Raises
    ------
    ModelError
        There are no such weights.
    """
    name = str((args or {}).get("encoder", name))
    if name.startswith(TIMM):
        return timm_networks.figures(name)
    if name.startswith(olmoearth.PREFIX):
        raise ModelError(
            "train.normalize: OlmoEarth's encoders take imagery that is normalised by its own statistics, as "
            '"auto" does; remove the key'
        )
    name = name.removeprefix(TORCHVISION)
    entry = weights_of(name)
    if entry is None:
        raise ModelError(
            f'train.normalize: the normalisation of the weights of the model "{name}" is not known; give it as '
            "{ mean = [...], std = [...] }, for values from 0 to 1"
        )
    if name in _FROM_TENSORFLOW:
        return _HALF
    preset = entry.transforms()
    return tuple(preset.mean), tuple(preset.std)


def weights_of(name: str) -> Any:
    """Return torchvision's entry of the weights that a named model starts from; None if there are none."""
    from rvbuild.learn.models import torchvision_classification, torchvision_segmentation  # these take seconds
    from rvbuild.learn.models.detectors import named

    if name in torchvision_segmentation.NAMES:
        return torchvision_segmentation.backbone_weights(name)
    if name in named.NAMES:
        name = named.backbone_name(name)
    return torchvision_classification.weights(name) if name in torchvision_classification.NAMES else None
