"""What all passes have: the model on its device, its steps, and batches that come to it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from rvbuild.learn.batchnorm import allow_single_values
from rvbuild.learn.chips.loader import Batch, Loader, Request, epoch_requests, plain_requests
from rvbuild.learn.device import amp_dtype, place, upload
from rvbuild.learn.hooks import Objective, Targets
from rvbuild.learn.selection import Scores
from rvbuild.learn.shards.group import Alone, Group
from rvbuild.learn.steps.encoder import Encoder
from rvbuild.learn.steps.freezing import Freezing
from rvbuild.learn.steps.stepper import Stepper
from rvbuild.progress import Progress
from rvbuild.settings.train import LoopSettings

MEASURED_CHIPS = 64
"""Number of training chips, without augmentation, for the statistics of batch normalisation."""


class Normalize(Protocol):
    """Turns raw batches into what the model is given, on the device; see `rvbuild.learn.normalize.Normalizer`."""

    def __call__(self, images: torch.Tensor, valid: torch.Tensor | None, device: torch.device) -> torch.Tensor:
        """Return one batch."""


@dataclass(frozen=True)
class Data:
    """The data of a training."""

    loader: Loader
    count: int
    """Training chips."""
    validation_count: int
    chances: np.ndarray | None = None
    """`(count,)` probability of each to be drawn; None: each comes once in an epoch."""


class Learnt(NamedTuple):
    """What a pass over the training chips says."""

    loss: float
    """The mean per chip."""
    rate: float
    """The learning rate of the last step."""
    parts: dict[str, float]
    """The mean of each part of the loss; empty if it is one."""


class Validated(NamedTuple):
    """What a pass over the validation chips says."""

    loss: float
    """The mean per chip."""
    metrics: Scores
    parts: dict[str, float]
    """The mean of each part of the loss; empty if it is one."""


class Passes(ABC):
    """The passes of one training.

    Parameters
    ----------
    model
        Fresh; it is moved to the device.
    data, objective, normalizer
        The source of batches, the objective, and the normalisation.
    train
        The train settings.
    seed
        Determines the order, the augmentation, and random draws of the model.
    device
        Where to compute.
    progress
        Receives chips.
    encoder
        Of the model, if the train settings treat it in a way of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        objective: Objective,
        normalizer: Normalize,
        train: LoopSettings,
        *,
        seed: int,
        device: torch.device,
        progress: Progress,
        encoder: Encoder | None = None,
    ) -> None:
        self.group: Group = Alone(1)
        self.model = place(model, device)
        allow_single_values(self.model)
        self.data, self.train, self.seed, self.device = data, train, seed, device
        self.objective, self.progress = objective, progress
        self._normalizer = normalizer
        self._amp = amp_dtype(train["amp"], device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._amp == torch.float16)
        batches = len(epoch_requests(data.count, train["batch_size"], seed, 0))
        self.freezing = Freezing(encoder, train.get("freeze", 0))
        self.steps = Stepper(self.model, encoder, train, batches, self.scaler)

    @abstractmethod
    def learn(self, epoch: int) -> Learnt:
        """Take the steps of an epoch."""

    @abstractmethod
    def validate(self) -> Validated:
        """Score the validation chips with the model as it is."""

    @abstractmethod
    def evaluated(self, epoch: int) -> contextlib.AbstractContextManager[None]:
        """Put the model into the state in which it is validated and saved after an epoch, for the length of a block."""

    def requests(self, epoch: int) -> list[Request]:
        """Return the batches of an epoch, and start its progress."""
        data = self.data
        requests = epoch_requests(data.count, self.train["batch_size"], self.seed, epoch, data.chances)
        chips = sum(len(request.chips) for request in requests)
        self.progress.start(f"epoch {epoch}/{self.train['epochs']}", chips, "chips")
        return requests

    def measured_requests(self, batch_size: int) -> list[Request]:
        """Return batches of the chips by which batch normalisation is measured."""
        rng = np.random.default_rng([self.seed, 0])
        chosen = np.sort(rng.permutation(self.data.count)[:MEASURED_CHIPS])
        return plain_requests("train", chosen.tolist(), batch_size)

    def validation_requests(self, batch_size: int) -> list[Request]:
        """Return the batches of the validation chips."""
        return plain_requests("validation", range(self.data.validation_count), batch_size)

    def batches(self, requests: Sequence[Request]) -> Iterator[Batch]:
        """Yield the batch of each request."""
        with contextlib.closing(self.data.loader.batches(requests)) as batches:
            yield from batches

    def on_device(self, batch: Batch) -> tuple[torch.Tensor, Targets]:
        """Return the normalised images and the targets of a batch, on the device."""
        targets = {
            name: [upload(item, self.device) for item in value]
            if isinstance(value, list)
            else upload(value, self.device)
            for name, value in batch.targets.items()
        }
        return self._normalizer(batch.images, batch.valid, self.device), targets

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of automatic mixed precision."""
        if self._amp is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._amp)

    def forward(self, requests: Sequence[Request]) -> None:
        """Run the model over batches."""
        for batch in self.batches(requests):
            images, _ = self.on_device(batch)
            with self.precision():
                self.model(images)
