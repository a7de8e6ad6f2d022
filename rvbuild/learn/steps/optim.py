"""Optimizers, and learning rates as pure functions of the step: a resumed training only has to restore the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_args

import torch
from torch import nn

from rvbuild.errors import ModelError, nearest
from rvbuild.learn.steps.encoder import Encoder
from rvbuild.settings.train import LayerSettings, Optimizer, OptimizerSettings, Schedule, ScheduleSettings

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
SCHEDULES: tuple[str, ...] = get_args(Schedule)

WARM_UP = 0.3
START_DIVISOR = 25.0
END_DIVISOR = 1e4
STEP_FACTOR = 0.1


class Group(NamedTuple):
    """Parameters that learn at one rate."""

    parameters: list[nn.Parameter]
    factor: float
    """Of the learning rate."""

    def as_torch(self) -> dict[str, Any]:
        """Return the group as optimizers take it."""
        return {"params": self.parameters}


def parameter_groups(model: nn.Module, encoder: Encoder | None, train: LayerSettings) -> list[Group]:
    """Return the parameters of a model by their factors of the learning rate.

    The head has the factor 1. Of the n layers of the encoder, layer i from the image, from 0, has
    `encoder_lr * layer_decay ** (n - i)` (Clark et al., ELECTRA, 2020).

    Parameters
    ----------
    model
        The model.
    encoder
        Of the model; None if all learn alike.
    train
        The train settings: `encoder_lr`, `layer_decay`.
    """
    factor, decay = train.get("encoder_lr", 1.0), train.get("layer_decay", 1.0)
    if encoder is None or factor == decay == 1:
        return [Group(list(model.parameters()), 1.0)]
    layers = encoder.layers()
    inside = {id(parameter) for layer in layers for parameter in layer}
    head = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    if decay == 1:
        layers = [[parameter for layer in layers for parameter in layer]]
    groups = [Group(layer, factor * decay ** (len(layers) - number)) for number, layer in enumerate(layers)]
    return [Group(head, 1.0), *groups] if head else groups


def make_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], train: OptimizerSettings
) -> torch.optim.Optimizer:
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

    With `warmup_epochs`, of n steps, the first n rates are step / (n + 1) of these, with steps counted from 1; those of
    `one_cycle` rise in n steps in the place of 30 %.

    Parameters
    ----------
    train
        The train settings: `schedule`, `lr`, `epochs`, `step_epochs`, `warmup_epochs`.
    steps_per_epoch
        Batches per epoch.
    """
    warmup = max(1, round(train["warmup_epochs"] * steps_per_epoch)) if train.get("warmup_epochs") else 0
    rate = _scheduled(train, steps_per_epoch, warmup)
    if not warmup or train["schedule"] == "one_cycle":
        return rate
    return lambda step: rate(step) * min(1.0, (step + 1) / (warmup + 1))


def _scheduled(train: ScheduleSettings, steps_per_epoch: int, warmup: int) -> Callable[[int], float]:
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
        top = max((warmup or WARM_UP * steps) - 1, 0.0)

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
