"""The steps of an optimizer, each by the gradients of one batch or of several."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from rvbuild.learn.models.pretrained.weights import State
from rvbuild.learn.steps.average import Average
from rvbuild.learn.steps.encoder import Encoder
from rvbuild.learn.steps.optim import learning_rate, make_optimizer, parameter_groups
from rvbuild.settings.train import LoopSettings


class Place(NamedTuple):
    """The place of a batch in an epoch."""

    share: float
    """Its part of the chips of a step."""
    first: bool
    last: bool
    """Whether it is the first, and the last, of its step."""


class Stepper:
    """Takes steps.

    Parameters
    ----------
    model
        On its device.
    encoder
        Of the model, if the settings need one.
    train
        The train settings.
    batches
        The number of batches of an epoch.
    scaler
        Scales losses of half precision.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Encoder | None,
        train: LoopSettings,
        batches: int,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._model, self._train, self._scaler = model, train, scaler
        self.at_once: int = train.get("accumulate", 1)
        self.per_epoch = math.ceil(batches / self.at_once)
        self._rate = learning_rate(train, self.per_epoch)
        groups = parameter_groups(model, encoder, train)
        self.optimizer = make_optimizer([group.as_torch() for group in groups], train)
        self._factors = [group.factor for group in groups]
        decay = train.get("ema")
        self.average = None if decay is None else Average(model, decay)

    def places(self, counts: Sequence[int]) -> Iterator[Place]:
        """Yield the place of each batch of an epoch, by their numbers of chips.

        A step counts every chip alike. The last one of an epoch may have fewer batches than the others.
        """
        for start in range(0, len(counts), self.at_once):
            group = counts[start : start + self.at_once]
            for number, count in enumerate(group):
                yield Place(count / sum(group), number == 0, number == len(group) - 1)

    def add(self, loss: torch.Tensor, share: float) -> None:
        """Add the gradients of a batch, or of a part of one, to those of its step, of which it is a share."""
        if share != 1:
            loss = loss * share
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        """Forget the gradients of the last step."""
        self.optimizer.zero_grad(set_to_none=True)

    def take(self, step: int) -> float:
        """Take a step by the gradients so far, and return its learning rate.

        Parameters
        ----------
        step
            The number of steps before, in all epochs.
        """
        rate = self._rate(step)
        for group, factor in zip(self.optimizer.param_groups, self._factors, strict=True):
            group["lr"] = rate * factor
        if (limit := self._train.get("clip_norm")) is not None:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), limit)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.average is not None:
            self.average.update()
        return rate

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Put the average of the weights, if there is one, into the model for the length of a block."""
        return contextlib.nullcontext() if self.average is None else self.average.used()

    def state(self) -> dict[int, Any]:
        """Return the state of the optimizer by the number of the parameter."""
        state: dict[int, Any] = self.optimizer.state_dict()["state"]
        return state

    def restore(self, state: Mapping[int, Mapping[str, Any]], average: State | None, epochs: int) -> None:
        """Continue from the state of the optimizer, and the average, after so many epochs."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        like = {
            index: {key: _like(value, parameters[index]) for key, value in values.items()}
            for index, values in state.items()
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": like, "param_groups": groups})
        if self.average is not None and average is not None:
            self.average.restore(average, epochs * self.per_epoch)


def _like(value: Any, parameter: torch.Tensor) -> Any:
    """Return an optimizer's tensor in the memory layout of its parameter, so that sums round as they did before."""
    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
        return torch.empty_like(parameter).copy_(value)
    return value
