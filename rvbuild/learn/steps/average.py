"""The exponential moving average of the weights of a training.

After each step, an average moves towards the weights by 1 - d of the distance. d is the decay, but in the first steps
no more than (1 + n) / (10 + n) after n steps, as in TensorFlow's `ExponentialMovingAverage`: a short training is not
dominated by the weights that it started from.

Buffers are not averaged. The statistics of batch normalisations are measured for the averaged weights, as they are for
all weights that are validated or saved (`rvbuild.learn.batchnorm`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

_DELAY = 10


class Average:
    """The average of the parameters of a model.

    Parameters
    ----------
    model
        The model; the average starts with its weights.
    decay
        The highest d.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._steps = 0
        self._values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def update(self) -> None:
        """Take the weights after one more step into account."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (_DELAY + self._steps))
        current = [parameter.detach() for parameter in self._model.parameters()]
        torch._foreach_lerp_(list(self._values.values()), current, 1 - decay)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Put the average into the model for the length of a block."""
        own = {name: parameter.detach().clone() for name, parameter in self._model.named_parameters()}
        self._put(self._values)
        try:
            yield
        finally:
            self._put(own)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the average by the names of the parameters."""
        return dict(self._values)

    def restore(self, state: Mapping[str, torch.Tensor], steps: int) -> None:
        """Continue from the average after so many steps."""
        self._steps = steps
        for name, value in self._values.items():
            value.copy_(state[name])

    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(values[name])
