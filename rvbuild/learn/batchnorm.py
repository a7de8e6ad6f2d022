"""Batch normalisation for short trainings and for batches of one.

Running statistics follow the weights with a delay: torchvision's MobileNetV3 has momentum 0.01, so after a few hundred
steps its evaluation mode still works with statistics of the first ones, and predicts nothing. So before every
validation, and before a model is saved, the statistics are measured anew with the weights as they are (Wu and Johnson,
"Rethinking 'Batch' in BatchNorm", 2021, section 3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def tracked_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalisation layers of `model` that keep running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


@contextlib.contextmanager
def measured(model: nn.Module, forward_all: Callable[[], None], kept: Collection[_BatchNorm] = ()) -> Iterator[None]:
    """Use measured statistics in `model`, in eval mode, within a block; the running statistics are restored afterwards.

    Parameters
    ----------
    model
        Any model; without batch normalisation nothing is measured.
    forward_all
        Runs the model over the batches to measure. The statistics are the plain mean over these of each batch's mean
        and variance. All other layers are in eval mode, as they will be in prediction.
    kept
        Layers of the model whose running statistics are used as they are.
    """
    layers = [layer for layer in tracked_layers(model) if layer not in kept]
    modes = {module: module.training for module in model.modules()}
    before = [({name: value.clone() for name, value in layer.named_buffers()}, layer.momentum) for layer in layers]
    model.eval()
    try:
        if layers:
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None
                layer.train()
            with torch.no_grad():
                forward_all()
            for layer in layers:
                layer.eval()
        yield
    finally:
        for layer, (buffers, momentum) in zip(layers, before, strict=True):
            layer.momentum = momentum
            for name, value in layer.named_buffers():
                value.copy_(buffers[name])
        for module, training in modes.items():
            module.training = training


def allow_single_values(model: nn.Module) -> None:
    """Let batch normalisations train on one value per channel, which torch refuses, by their running statistics.

    Networks that pool the whole image, like DeepLabV3, normalise one value per chip: in a batch of one chip there is no
    variance.
    """

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if layer.training and inputs[0].numel() == inputs[0].shape[1]:
            layer.training = False
            waiting.add(layer)

    def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if layer in waiting:
            layer.training = True
            waiting.discard(layer)

    waiting: set[nn.Module] = set()
    for layer in tracked_layers(model):
        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)
