"""All that the shards of a step add up, as one tensor: gradients, and changes of the statistics of normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rvbuild.errors import ModelError


class Statistics:
    """The running statistics of the normalisations of a model.

    Each shard continues those before the step, by its own batches; the change of a step is the mean of their changes,
    weighted by chips.

    Parameters
    ----------
    layers
        The normalisations.
    """

    def __init__(self, layers: Sequence[_NormBase]) -> None:
        self._layers = [layer for layer in layers if layer.running_mean is not None]
        self.tensors: list[torch.Tensor] = [
            tensor for layer in self._layers for tensor in (layer.running_mean, layer.running_var) if tensor is not None
        ]
        self._before = [tensor.clone() for tensor in self.tensors]
        self._counts = [layer.num_batches_tracked for layer in self._layers if layer.num_batches_tracked is not None]
        self._counts_before = [count.clone() for count in self._counts]

    def keep(self) -> None:
        """Remember the statistics as they are."""
        _copy(self._before, self.tensors)
        _copy(self._counts_before, self._counts)

    def reset(self) -> None:
        """Start the statistics anew."""
        for layer in self._layers:
            layer.reset_running_stats()

    def restore(self) -> None:
        """Put back those remembered."""
        _copy(self.tensors, self._before)
        _copy(self._counts, self._counts_before)

    def changes(self) -> list[torch.Tensor]:
        """Return the difference to those remembered."""
        return list(torch._foreach_sub(self.tensors, self._before)) if self.tensors else []

    def change(self, changes: Sequence[torch.Tensor], batches: int) -> None:
        """Add changes to those remembered, after so many batches."""
        self.restore()
        if self.tensors:
            torch._foreach_add_(self.tensors, list(changes))
        for layer in self._layers:
            if layer.training and layer.num_batches_tracked is not None:
                layer.num_batches_tracked += batches


def _copy(to: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    if to:
        torch._foreach_copy_(list(to), list(values))


class Vector:
    """Turns gradients and statistics into one tensor, and back.

    Parameters
    ----------
    parameters
        Those that learn.
    statistics
        Of the same model.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], statistics: Statistics) -> None:
        self._parameters, self._statistics = list(parameters), statistics
        self._like: list[torch.Tensor] = [*self._parameters, *statistics.tensors]
        self._dtype = torch.float32
        for tensor in self._like:
            self._dtype = torch.promote_types(self._dtype, tensor.dtype)
        self._length = sum(tensor.numel() for tensor in self._like) + len(self._parameters)

    def empty(self) -> torch.Tensor:
        """Return the values of a shard without chips."""
        device = self._like[0].device if self._like else None
        return torch.zeros(self._length, dtype=self._dtype, device=device)

    def packed(self, share: float) -> torch.Tensor:
        """Return the gradients of a shard, and its changes of the statistics times its share of the chips of a step."""
        values = self.empty()
        views = self._views(values)
        count = len(self._parameters)
        there = [place for place, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if there:
            torch._foreach_copy_([views[place] for place in there], [self._parameters[place].grad for place in there])  # type: ignore[misc]
            values[self._length - count :][there] = 1
        if changes := self._statistics.changes():
            torch._foreach_mul_(changes, share)
            torch._foreach_copy_(views[count:], changes)
        return values

    def unpack(self, values: torch.Tensor, batches: int) -> None:
        """Put the sum over all shards into the gradients, and into the statistics, after so many batches.

        A parameter for which no shard has a gradient has none.
        """
        views, count = self._views(values), len(self._parameters)
        for parameter, view, there in zip(
            self._parameters, views, values[self._length - count :].tolist(), strict=False
        ):
            parameter.grad = view.to(parameter.dtype) if there else None
        self._statistics.change(
            [view.to(t.dtype) for view, t in zip(views[count:], self._like[count:], strict=True)], batches
        )

    def _views(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Return the part of each tensor, in the order in which its own values lie in memory."""
        views, start = [], values.storage_offset()
        for tensor in self._like:
            views.append(values.as_strided(tensor.shape, _strides(tensor), start))
            start += tensor.numel()
        return views


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the strides of a tensor in memory of its own: as they are, if they are of a usual layout."""
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.stride() if last else torch.empty(tensor.shape, device="meta").stride()


def norms_of(model: nn.Module) -> list[_NormBase]:
    """Return the normalisations of a model that keep running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _NormBase) and layer.running_mean is not None]


class Unchanged:
    """Watches the buffers of a model that no shard may change: nothing says how to combine them.

    Parameters
    ----------
    model
        The running statistics of its normalisations may change.
    """

    def __init__(self, model: nn.Module) -> None:
        free = {id(buffer) for layer in norms_of(model) for buffer in layer.buffers()}
        self._model = model
        self._versions = {
            name: (id(buffer), buffer._version) for name, buffer in model.named_buffers() if id(buffer) not in free
        }
        self._free = free

    def require(self) -> None:
        """Raise a ModelError if one of them has changed."""
        for name, buffer in self._model.named_buffers():
            if id(buffer) not in self._free and self._versions.get(name) != (id(buffer), buffer._version):
                raise ModelError(
                    f"train.shards: the model changes its buffer {name} while it learns, and nothing says how that of "
                    "several shards is one; only running statistics of normalisations can be combined. Remove "
                    "train.shards, or give the model other layers"
                )
