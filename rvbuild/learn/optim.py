"""Optimizers, and learning rates as pure functions of the step: a resumed training only has to restore the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import get_args

import torch

from rvbuild.errors import ModelError, nearest
from rvbuild.settings.train import Optimizer, OptimizerSettings, Schedule, ScheduleSettings

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
SCHEDULES: tuple[str, ...] = get_args(Schedule)

WARM_UP = 0.3
START_DIVISOR = 25.0
END_DIVISOR = 1e4
STEP_FACTOR = 0.1


def make_optimizer(parameters: Iterable[torch.nn.Parameter], train: OptimizerSettings) -> torch.optim.Optimizer:
    """Return the optimizer of the train settings: `optimizer`, `lr`, `weight_decay` and, for SGD, `momentum`."""
    name: str = train["optimizer"]
    lr, decay = train["lr"], train["weight_decay"]
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=decay, momentum=train["momentum"])
    raise ModelError(
        f'train.optimizer: there is no optimizer "{name}"{nearest(name, OPTIMIZERS)}; '
        f"expected one of {', '.join(OPTIMIZERS)}"
    )


def learning_rate(train: ScheduleSettings, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, from 0 over all epochs.

    * `one_cycle` (Smith, 2018; torch's `OneCycleLR` without its cycle of momentum): a cosine from lr / 25 up to lr over
      the first 30 % of all steps, then a cosine down to lr / 250 000 at the last step.
    * `cosine`: lr (1 + cos(π step / steps)) / 2.
    * `step`: lr, a tenth of it after the first of `step_epochs`, a hundredth after the second, and so on.
    * `constant`: lr.

    Parameters
    ----------
    train
        The train settings: `schedule`, `lr`, `epochs`, `step_epochs`.
    steps_per_epoch
        Batches per epoch.
    """
    name: str = train["schedule"]
    peak = train["lr"]
    steps = train["epochs"] * steps_per_epoch
    if name == "constant":
        return lambda step: peak
    if name == "step":
        ends = [epoch * steps_per_epoch for epoch in train["step_epochs"]]
        return lambda step: peak * STEP_FACTOR ** sum(step >= end for end in ends)
    if name == "cosine":
        return lambda step: peak * (1 + math.cos(math.pi * step / steps)) / 2
    if name == "one_cycle":
        start = peak / START_DIVISOR
        top = max(WARM_UP * steps - 1, 0.0)

        def one_cycle(step: int) -> float:
            if step < top:
                return _cosine(start, peak, step / top)
            return _cosine(peak, start / END_DIVISOR, (step - top) / max(steps - 1 - top, 1.0))

        return one_cycle
    raise ModelError(
        f'train.schedule: there is no schedule "{name}"{nearest(name, SCHEDULES)}; '
        f"expected one of {', '.join(SCHEDULES)}"
    )


def _cosine(before: float, after: float, share: float) -> float:
    return after + (before - after) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
