"""Several networks in one, each at a scale of its own, whose probabilities are averaged (`train.ensemble`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.steps.encoder import Encoder, side_by_side
from rvbuild.project.networks import SCALES, SIZES
from rvbuild.settings.train import Arguments

ARGUMENT = "ensemble"
"""What `train.ensemble` is called among the arguments of a model."""


def scales_of(args: Arguments) -> tuple[float, ...]:
    """Return the scales of the members, which `args` have; none: a single network.

    Raises
    ------
    ModelError
        They are no scales.
    """
    if ARGUMENT not in args:
        return ()
    scales = args[ARGUMENT]
    if (
        isinstance(scales, list | tuple)
        and SIZES[0] <= len(scales) <= SIZES[1]
        and all(isinstance(scale, int | float) and SCALES[0] <= scale <= SCALES[1] for scale in scales)
    ):
        return tuple(map(float, scales))
    raise ModelError(
        f"train.ensemble: expected the scales of {SIZES[0]} to {SIZES[1]} networks, numbers from {SCALES[0]} to "
        f"{SCALES[1]}; found {scales!r}"
    )


class Ensemble(nn.Module):
    """Maps `(N, bands, H, W)` to logits: `(N, outputs, H, W)`, or `(N, outputs)` where its members do.

    While it trains, each member learns from chips of its own: member i of n from chips i, i + n, i + 2 n and so on of a
    batch. So an epoch costs as much as one of a single network, and members differ. Otherwise all members predict all
    images, and the result is the logarithm of their mean probabilities (deep ensembles, Lakshminarayanan et al. 2017).

    Parameters
    ----------
    make
        Makes a member for a scale.
    scales
        For each member, the side of a pixel of the image in its own pixels: with 0.5 it sees pixels of twice the side.
    """

    def __init__(self, make: Callable[[float], nn.Module], scales: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(map(make, scales))
        self._scales = tuple(scales)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`."""
        count = len(self._scales)
        if not self.training:
            logs = [functional.log_softmax(self._logits(member, images), dim=1) for member in range(count)]
            return torch.stack(logs).logsumexp(dim=0) - math.log(count)
        shares = [list(range(member, len(images), count)) for member in range(min(count, len(images)))]
        logits = torch.cat([self._logits(member, images[chips]) for member, chips in enumerate(shares)])
        order = torch.tensor([chip for share in shares for chip in share], device=images.device)
        return logits[torch.argsort(order)]

    def _logits(self, member: int, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of one member, those of pixels in the pixels of `images`."""
        height, width = images.shape[-2:]
        logits: torch.Tensor = self.members[member](_scaled(images, self._scales[member]))
        if logits.dim() == 4 and logits.shape[-2:] != (height, width):
            below, right = (-side % _whole(self._scales[member]) for side in (height, width))
            whole = (height + below, width + right)
            logits = functional.interpolate(logits, whole, mode="bilinear", align_corners=False)[..., :height, :width]
        return logits


def _scaled(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Return images in other pixels: means of blocks of whole pixels, and the rest by bilinear interpolation.

    torch could do both at once (`antialias`), but OpenVINO's interpolation differs from its.
    """
    count = _whole(scale)
    if count > 1:
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % count, 0, -height % count), mode="replicate")
        images = functional.avg_pool2d(images, count)
    if (rest := scale * count) != 1:
        size = [max(1, round(side * rest)) for side in images.shape[-2:]]
        images = functional.interpolate(images, size, mode="bilinear", align_corners=False)
    return images


def _whole(scale: float) -> int:
    """Return the side of the blocks of pixels that are averaged: as many as fit into a pixel of the member."""
    return max(1, int(1 / scale))


def encoder(model: nn.Module, of_member: Callable[[nn.Module], Encoder]) -> Encoder:
    """Return the encoders of an ensemble as one; `of_member` tells that of a member."""
    return side_by_side([of_member(member) for member in model.get_submodule("members").children()])
