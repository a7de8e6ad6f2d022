"""Several networks in one, each at a scale of its own, whose probabilities are averaged (`train.ensemble`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.device import kept_random_state, random_state
from rvbuild.learn.models.several.at_once import computed, workers
from rvbuild.learn.steps.encoder import Encoder, side_by_side
from rvbuild.project.networks import LOOKS, SCALES, SIZES
from rvbuild.settings.train import Arguments

ARGUMENT = "ensemble"
"""What `train.ensemble` is called among the arguments of a model."""


class Scales(NamedTuple):
    """The side of a pixel of the image in the pixels of a member: with 0.5 it sees pixels of twice the side."""

    learning: float
    """While it trains."""
    looking: tuple[float, ...]
    """When it predicts: the mean over all counts."""


def scales_of(args: Arguments) -> tuple[Scales, ...]:
    """Return the scales of each member, which `args` have; none: a single network.

    Raises
    ------
    ModelError
        They are no scales.
    """
    if ARGUMENT not in args:
        return ()
    members = args[ARGUMENT]
    if isinstance(members, list | tuple) and SIZES[0] <= len(members) <= SIZES[1]:
        looking = [tuple(member) if isinstance(member, list | tuple) else (member,) for member in members]
        if all(_are_scales(scales) for scales in looking):
            return tuple(Scales(float(scales[0]), tuple(map(float, scales))) for scales in looking)
    raise ModelError(
        f"train.ensemble: expected the scales of {SIZES[0]} to {SIZES[1]} networks, numbers from {SCALES[0]} to "
        f"{SCALES[1]}, or lists of 1 to {LOOKS} of them; found {members!r}"
    )


def _are_scales(scales: Sequence[object]) -> bool:
    return 1 <= len(scales) <= LOOKS and all(
        isinstance(scale, int | float) and SCALES[0] <= scale <= SCALES[1] for scale in scales
    )


class Ensemble(nn.Module):
    """Maps `(N, bands, H, W)` to logits: `(N, outputs, H, W)`, or `(N, outputs)` where its members do.

    While it trains, each member learns from chips of its own: member i of n from chips i, i + n, i + 2 n and so on of a
    batch. So an epoch costs as much as one of a single network, and members differ. Otherwise all members predict all
    images, at all scales that they look at, and the result is the logarithm of the mean of their probabilities (deep
    ensembles, Lakshminarayanan et al. 2017). Members count alike, however many scales they look at.

    On a CPU, as many members compute at the same time as torch has threads, unless they draw random numbers as they
    learn, for example in dropout: the order of draws would be that of the threads.

    Parameters
    ----------
    make
        Makes a member for the scale at which it learns.
    scales
        Those of each member.
    """

    def __init__(self, make: Callable[[float], nn.Module], scales: Sequence[Scales]) -> None:
        super().__init__()
        self.members = nn.ModuleList(make(each.learning) for each in scales)
        self._scales = tuple(scales)
        self._draws: bool | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`."""
        count = len(self._scales)
        if not self.training:
            costs = [sum(scale**2 for scale in each.looking) for each in self._scales]
            return _mean(computed(lambda member: self._predicted(member, images), costs, workers(count, images)))
        shares = [list(range(member, len(images), count)) for member in range(min(count, len(images)))]
        logits = torch.cat(self._learning([images[share[0] :: count] for share in shares]))
        order = torch.tensor([chip for share in shares for chip in share], device=images.device)
        return logits[torch.argsort(order)]

    def _learning(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the logits of the first members while they train, each of its own images."""

        def logits(member: int) -> torch.Tensor:
            return self._logits(member, self._scales[member].learning, images[member])

        at_once = workers(len(images), images[0])
        if at_once > 1 and self._draws is None:
            self._draws = self._draw(lambda: [logits(member) for member in range(len(images))])
        if self._draws:
            at_once = 1
        costs = [len(own) * each.learning**2 for own, each in zip(images, self._scales, strict=False)]
        before = random_state()
        results = computed(logits, costs, at_once)
        if at_once > 1 and random_state() != before:
            raise ModelError(
                "train.ensemble: the networks draw random numbers in some steps and not in others, and those that "
                "compute at the same time draw in any order; add train.threads = 1"
            )
        return results

    def _draw(self, compute: Callable[[], object]) -> bool:
        """Tell whether the networks draw random numbers as they learn; the model is as before afterwards."""
        buffers = [buffer.clone() for buffer in self.buffers()]
        with kept_random_state(), torch.no_grad():
            before = random_state()
            compute()
            drawn = random_state() != before
            for buffer, value in zip(self.buffers(), buffers, strict=True):
                buffer.copy_(value)
        return drawn

    def _predicted(self, member: int, images: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the probabilities of one member."""
        scales = self._scales[member].looking
        return _mean([functional.log_softmax(self._logits(member, scale, images), dim=1) for scale in scales])

    def _logits(self, member: int, scale: float, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of one member at a scale, those of pixels in the pixels of `images`."""
        height, width = images.shape[-2:]
        logits: torch.Tensor = self.members[member](_scaled(images, scale))
        if logits.dim() == 4 and logits.shape[-2:] != (height, width):
            below, right = (-side % _whole(scale) for side in (height, width))
            whole = (height + below, width + right)
            logits = functional.interpolate(logits, whole, mode="bilinear", align_corners=False)[..., :height, :width]
        return logits


def _mean(logs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logarithm of the mean of what `logs` are the logarithms of."""
    return torch.stack(list(logs)).logsumexp(dim=0) - math.log(len(logs)) if len(logs) > 1 else logs[0]


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
