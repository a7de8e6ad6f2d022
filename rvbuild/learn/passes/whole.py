"""Passes of whole batches, in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from rvbuild.learn.batchnorm import measured
from rvbuild.learn.chips.loader import Batch
from rvbuild.learn.device import seed_by
from rvbuild.learn.passes.base import Learnt, Passes, Validated
from rvbuild.learn.steps.stepper import Place


class Whole(Passes):
    """Passes of whole batches, in one process."""

    def learn(self, epoch: int) -> Learnt:
        """Take the steps of an epoch."""
        requests = self.requests(epoch)
        seed_by(f"{self.seed}/{epoch}")
        self.freezing.train(self.model, epoch)
        total, chips, rate = torch.zeros((), dtype=torch.float64, device=self.device), 0, 0.0
        step, places = (epoch - 1) * self.steps.per_epoch, self.steps.places([len(r.chips) for r in requests])
        with contextlib.closing(self.data.loader.batches(requests)) as batches:
            for batch, at in zip(batches, places, strict=True):
                count = len(batch.images)
                total += self._gradients(batch, at) * count
                if at.last:
                    rate = self.steps.take(step)
                    step += 1
                chips += count
                self.progress.advance(count)
        return Learnt(float(total) / chips, rate, self.objective.parts())

    def _gradients(self, batch: Batch, at: Place) -> torch.Tensor:
        """Add the gradients of a batch to those of its step, and return its loss."""
        images, targets = self.on_device(batch)
        if at.first:
            self.steps.clear()
        with self.precision():
            loss = self.objective.loss(self.model, images, targets)
        self.steps.add(loss, at.share)
        return loss.detach().double()

    def validate(self) -> Validated:
        """Score the validation chips."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for batch in self.batches(self.validation_requests(self.train["batch_size"])):
                images, targets = self.on_device(batch)
                with self.precision():
                    loss = self.objective.validate(self.model, images, targets)
                total += loss.double() * len(images)
                self.progress.advance(len(images))
        return Validated(float(total) / self.data.validation_count, self.objective.scores(), self.objective.parts())

    @contextlib.contextmanager
    def evaluated(self, epoch: int) -> Iterator[None]:
        """Put the model into the state in which it is validated and saved."""
        requests = self.measured_requests(self.train["batch_size"])
        with (
            self.steps.averaged(),
            measured(self.model, lambda: self.forward(requests), self.freezing.kept(epoch)),
        ):
            yield
