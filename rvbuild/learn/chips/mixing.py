"""Training chips mixed with others of their batch: CutMix (Yun et al., 2019) and mixup (Zhang et al., 2018).

Each chip is mixed with the next one of its batch, as that is after its own augmentation. What is drawn follows from
(seed, epoch, chip). At most one of the two is applied to a chip: the first one that is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rvbuild.learn.chips.radiometry import as_dtype
from rvbuild.learn.chips.valid import valid_of
from rvbuild.learn.hooks import OTHER, SHARE, Sample, Target, TargetOps
from rvbuild.project.tasks.augmentations import AUGMENTATIONS, MIXING

_STREAM = 1
"""Keeps the draws apart from those of the augmentation of the same chip."""


@dataclass(frozen=True)
class Mixed:
    """A chip after mixing."""

    sample: Sample
    other: Target
    """The target of the chip that it is mixed with; its own if it is not."""
    share: float
    """How much its own target counts, from 0 to 1."""


class Mixer:
    """Mixes the chips of a batch.

    Parameters
    ----------
    names
        `train.augment`.
    args
        `train.augment_args`; defaults are filled in.
    ops
        What is done to the targets of the task.
    """

    def __init__(self, names: Sequence[str], args: Mapping[str, Mapping[str, Any]], ops: TargetOps) -> None:
        self._ops = ops
        self._kinds = [
            (name, AUGMENTATIONS[name].with_defaults(args.get(name, {}))) for name in names if name in MIXING
        ]

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[Sequence[int]]) -> list[Mixed]:
        """Return the chips of a batch after mixing; the seed of each decides."""
        partners = [*samples[1:], *samples[:1]]
        return [self._mix(*of_chip) for of_chip in zip(samples, partners, seeds, strict=True)]

    def targets(self, mixed: Sequence[Mixed]) -> dict[str, Any]:
        """Return the targets of a batch; of the other chips, too, if labels are mixed."""
        targets = self._ops.collate([chip.sample.target for chip in mixed])
        if all(chip.share == 1 for chip in mixed):
            return targets
        others = self._ops.collate([chip.other for chip in mixed])
        shares = torch.tensor([chip.share for chip in mixed], dtype=torch.float32)
        return {**targets, **{f"{OTHER}{name}": value for name, value in others.items()}, SHARE: shares}

    def _mix(self, sample: Sample, partner: Sample, seed: Sequence[int]) -> Mixed:
        rng = np.random.default_rng([*seed, _STREAM])
        for name, args in self._kinds:
            if rng.random() < args["probability"]:
                share = float(rng.beta(args["alpha"], args["alpha"]))
                return self._cutmix(sample, partner, share, rng) if name == "cutmix" else _mixup(sample, partner, share)
        return Mixed(sample, sample.target, 1.0)

    def _cutmix(self, sample: Sample, partner: Sample, share: float, rng: np.random.Generator) -> Mixed:
        """Return a chip with a rectangle of another at the same place, of 1 - `share` of its area where it fits."""
        height, width = sample.image.shape[-2:]
        rows, cols = (_span(length, math.sqrt(1 - share), rng) for length in (height, width))
        image, valid = sample.image.copy(), None
        image[:, rows, cols] = partner.image[:, rows, cols]
        if sample.valid is not None or partner.valid is not None:
            valid = valid_of(sample).copy()
            valid[:, rows, cols] = valid_of(partner)[:, rows, cols]
        assert self._ops.paste is not None
        target = self._ops.paste(sample.target, partner.target, rows, cols)
        if target is not None:
            return Mixed(Sample(image, valid, target), target, 1.0)
        pasted = (rows.stop - rows.start) * (cols.stop - cols.start) / (height * width)
        return Mixed(Sample(image, valid, sample.target), partner.target, 1 - pasted)


def _span(length: int, share: float, rng: np.random.Generator) -> slice:
    """Return a part of a side around a random centre, cut at the ends."""
    half, centre = length * share / 2, rng.uniform(0, length)
    start, stop = (min(max(round(end), 0), length) for end in (centre - half, centre + half))
    return slice(start, stop)


def _mixup(sample: Sample, partner: Sample, share: float) -> Mixed:
    """Return the weighted mean of two chips; where only one has data, its value alone."""
    own, other = valid_of(sample), valid_of(partner)
    mean = share * sample.image.astype(np.float64) + (1 - share) * partner.image.astype(np.float64)
    image = np.where(own & other, as_dtype(mean, sample.image.dtype), np.where(own, sample.image, partner.image))
    valid = own | other
    return Mixed(replace(sample, image=image, valid=None if valid.all() else valid), partner.target, share)
