"""timm's networks as classifiers, for any number of bands and classes, and chips of any side.

A network is created for the side of the chips where it must be; one that has patches or windows which do not divide it
is given resized chips.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.models import timm_networks
from rvbuild.learn.models.arguments import check_names
from rvbuild.learn.steps.encoder import Encoder, all_but
from rvbuild.project.networks import TIMM
from rvbuild.project.networks.timm import problem
from rvbuild.settings.train import Arguments

NAMES = ()
"""They are too many to be listed: names begin with `timm/`."""


class Classifier(nn.Module):
    """Maps `(N, bands, H, W)` to `(N, outputs)` logits.

    Parameters
    ----------
    model
        A network of timm.
    side_px
        The side that images are resized to for it; None: they are not.
    """

    def __init__(self, model: nn.Module, side_px: int | None) -> None:
        super().__init__()
        self.model = model
        self._side_px = side_px

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`."""
        side = self._side_px
        if side is not None and tuple(images.shape[-2:]) != (side, side):
            images = functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        logits = self.model(images)
        if not isinstance(logits, torch.Tensor):
            # Networks for distillation have two heads, and give their mean in prediction.
            logits = torch.stack(list(logits)).mean(dim=0)
        return logits


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
    chip_px: int | None = None,
) -> nn.Module:
    """Make a classifier of timm; see `rvbuild.learn.models.build`.

    A weights file may hold the network for another number of classes: its last layer is then left out.
    """
    check_names(name, args, ())
    if found := problem(name, encoder=False):
        raise ModelError(f"train.model: {found}")
    model, side = timm_networks.make(name, chip_px, bands, {"num_classes": outputs}, pretrained, note)
    return Classifier(model, side)


def is_named(name: str) -> bool:
    """Tell whether a name is meant to be that of a network of timm."""
    return name.startswith(TIMM)


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: all but the last layer, of which networks for distillation have two."""
    network: Any = model.get_submodule("model")
    heads = network.get_classifier()
    return all_but(model, [heads] if isinstance(heads, nn.Module) else list(heads))
