"""An encoder that does not learn in the first epochs: its weights and the statistics of its normalisations stay."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rvbuild.learn.steps.encoder import Encoder


class Freezing:
    """Freezes the encoder of a model for some epochs.

    Parameters
    ----------
    encoder
        Of the model; None if nothing is frozen.
    epochs
        The encoder is frozen up to this epoch, from 1.
    """

    def __init__(self, encoder: Encoder | None, epochs: int) -> None:
        self._epochs = epochs if encoder is not None else 0
        self._modules: tuple[nn.Module, ...] = encoder.modules if encoder is not None else ()
        # A model may keep some layers from learning itself: those are never thawed.
        self._parameters = [p for p in encoder.parameters() if p.requires_grad] if encoder is not None else []
        self._batchnorms = encoder.batchnorms() if encoder is not None else []

    def train(self, model: nn.Module, epoch: int) -> None:
        """Put a model into training mode for an epoch: frozen parts work as they do in prediction."""
        model.train()
        if not self._epochs:
            return
        frozen = epoch <= self._epochs
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        if frozen:
            for module in self._modules:
                module.eval()

    def kept(self, epoch: int) -> Sequence[_BatchNorm]:
        """Return the batch normalisations whose statistics are not to change in an epoch."""
        return self._batchnorms if epoch <= self._epochs else ()
