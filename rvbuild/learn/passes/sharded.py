"""Passes in which each batch is cut into shards, which any number of processes computes with the same result.

A shard is to a batch what a process is in torch's `DistributedDataParallel`: it has its own forward and backward, its
own random draws, and its own statistics in batch normalisation. Gradients are summed along one tree over the shards
(`rvbuild.learn.shards.tree`). So the result depends on the number of shards, but not on who computes them.

Losses that are means over labelled pixels are weighted by these, so that their sum is the loss of the batch. Chips are
validated in batches of the size of a shard, each by one process.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.batchnorm import measured, tracked_layers
from rvbuild.learn.chips.loader import Batch, Request
from rvbuild.learn.device import seed_by
from rvbuild.learn.hooks import PartObjective
from rvbuild.learn.passes.base import Learnt, Passes, Validated
from rvbuild.learn.shards.group import Group
from rvbuild.learn.shards.tree import cut, total
from rvbuild.learn.shards.vector import Statistics, Unchanged, Vector, norms_of


class _Result(NamedTuple):
    """What one forward says, on its way to the other processes."""

    weight: float
    """How much it counts in a mean over all."""
    loss: Any
    """A tensor, or its number."""
    parts: dict[str, float]


class Sharded(Passes):
    """Passes of the shards of one process.

    Parameters
    ----------
    parameters
        Those of `Passes`; `progress` receives the chips of all processes.
    group
        The processes that compute the shards together.

    Raises
    ------
    ModelError
        The model synchronises its batch normalisation, so that it would depend on the number of processes.
    """

    objective: PartObjective

    def __init__(self, *parameters: Any, group: Group, **more: Any) -> None:
        super().__init__(*parameters, **more)
        self.group = group
        self._shards = self.train["shards"]
        if any(isinstance(layer, nn.SyncBatchNorm) for layer in self.model.modules()):
            raise ModelError(
                "train.shards: the model has layers of torch.nn.SyncBatchNorm, whose results depend on the number of "
                "processes; use torch.nn.BatchNorm2d"
            )
        # A model of the user's own may draw from other generators than those that are seeded.
        group.equalize([*self.model.parameters(), *self.model.buffers()])
        self._statistics = Statistics(norms_of(self.model))
        self._batch_size = math.ceil(self.train["batch_size"] / self._shards)

    def learn(self, epoch: int) -> Learnt:
        """Take the steps of an epoch."""
        requests = self.requests(epoch)
        at_once = self.steps.at_once
        steps = [requests[start : start + at_once] for start in range(0, len(requests), at_once)]
        self.freezing.train(self.model, epoch)
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        vector, unchanged = Vector(learning, self._statistics), Unchanged(self.model)
        own = [part for step in steps for shard in self.group.node for part in _parts(step, self._shards, shard)]
        results: list[_Result] = []
        rate = 0.0
        with contextlib.closing(self.data.loader.batches(own, len(self.group.node) * at_once)) as batches:
            for number, step in enumerate(steps):
                seed = f"{self.seed}/{epoch}/{number}"
                results += self._gradients(step, batches, vector, seed)
                unchanged.require()
                rate = self.steps.take((epoch - 1) * self.steps.per_epoch + number)
                self.progress.advance(_count(step))
        loss, parts = self._means(results)
        return Learnt(loss, rate, parts)

    def _gradients(self, step: Sequence[Request], batches: Iterator[Batch], vector: Vector, seed: str) -> list[_Result]:
        """Put the gradients of a step into the model, and return what the shards of this process say."""
        cuts = [cut(request.chips, self._shards) for request in step]
        own = {
            (shard, place): next(batches)
            for shard in self.group.node
            for place, parts in enumerate(cuts)
            if parts[shard]
        }
        shares = self._shares(cuts, {at: self.objective.weight(batch.targets) for at, batch in own.items()})
        results = []

        def of_shard(shard: int) -> torch.Tensor:
            self.steps.clear()
            self._statistics.restore()
            for place, share in enumerate(shares):
                batch = own.pop((shard, place), None)
                if batch is None:
                    continue
                seed_by(f"{seed}/{place}/{shard}")
                images, targets = self.on_device(batch)
                with self.precision():
                    loss = self.objective.loss(self.model, images, targets)
                parts_of_loss = self.objective.parts()
                # The loss of a shard without labels may not be a number; it does not count.
                if share[shard]:
                    self.steps.add(loss, share[shard])
                    weight = share[shard] * _count(step)
                    results.append(_Result(weight, loss.detach().double(), parts_of_loss))
            return vector.packed(sum(len(parts[shard]) for parts in cuts) / _count(step))

        self._statistics.keep()
        vector.unpack(self.group.total(total(self.group.node, of_shard, torch.Tensor.add_)), len(step))
        return results

    def _shares(
        self, cuts: Sequence[Sequence[Sequence[int]]], weights: dict[tuple[int, int], float]
    ) -> list[list[float]]:
        """Return how much the loss of each shard of each batch of a step counts; 1 together.

        Parameters
        ----------
        cuts
            The chips of each shard of each batch.
        weights
            Of the losses of this process, by shard and batch.
        """
        own = torch.zeros(len(cuts), self._shards, dtype=torch.float64)
        for (shard, place), weight in weights.items():
            own[place, shard] = weight
        shares = []
        chips = sum(len(part) for parts in cuts for part in parts)
        for parts, of_batch in zip(cuts, self.group.united(own).tolist(), strict=True):
            counts = [len(part) for part in parts]
            # Without any label, losses are 0 anyway.
            weighing = of_batch if any(of_batch) else counts
            whole = math.fsum(weighing)
            shares.append([sum(counts) / chips * (weight / whole) for weight in weighing])
        return shares

    def validate(self) -> Validated:
        """Score the validation chips."""
        requests = self.validation_requests(self._batch_size)
        results = []
        with torch.inference_mode():
            for batch in self.batches(self.group.part(requests)):
                images, targets = self.on_device(batch)
                with self.precision():
                    loss = self.objective.validate(self.model, images, targets)
                results.append(_Result(len(images), loss.double(), self.objective.parts()))
                if self.group.first:
                    self.progress.advance(len(images))
        mean, parts = self._means(results)
        for counts in self.group.gathered(self.objective.counts()):
            self.objective.count(counts)
        return Validated(mean, self.objective.scores(), parts)

    @contextlib.contextmanager
    def evaluated(self, epoch: int) -> Iterator[None]:
        """Put the model into the state in which it is validated and saved.

        Each shard measures a part of the batches; the statistics are the mean over all batches.
        """
        kept = self.freezing.kept(epoch)
        statistics = Statistics([layer for layer in tracked_layers(self.model) if layer not in kept])
        parts = cut(self.measured_requests(self._batch_size), self._shards)

        def forward_all() -> None:
            def of_shard(shard: int) -> torch.Tensor:
                statistics.reset()
                for _ in parts[shard]:
                    images, _ = self.on_device(next(batches))
                    with self.precision():
                        self.model(images)
                return vector.packed(len(parts[shard]) / sum(map(len, parts)))

            statistics.reset()
            statistics.keep()
            vector = Vector([], statistics)
            own = [request for shard in self.group.node for request in parts[shard]]
            with contextlib.closing(self.data.loader.batches(own)) as batches:
                whole = self.group.total(total(self.group.node, of_shard, torch.Tensor.add_))
            vector.unpack(whole, sum(map(len, parts)))

        with self.steps.averaged(), measured(self.model, forward_all, kept):
            yield

    def _means(self, results: Iterable[_Result]) -> tuple[float, dict[str, float]]:
        """Return the mean loss, and that of its parts, over the results of all processes."""
        own = [_Result(weight, float(loss), parts) for weight, loss, parts in results]
        every = [result for of_process in self.group.gathered(own) for result in of_process]
        weight = math.fsum(result.weight for result in every)
        loss = _sum(result.weight * result.loss for result in every) / weight
        names = dict.fromkeys(name for result in every for name in result.parts)
        parts = {
            name: _sum(result.weight * result.parts[name] for result in every if name in result.parts) / weight
            for name in names
        }
        return loss, parts


def _parts(step: Sequence[Request], shards: int, shard: int) -> Iterator[Request]:
    """Yield the parts of the batches of a step that a shard has."""
    for request in step:
        if part := cut(request.chips, shards)[shard]:
            yield request._replace(chips=part)


def _count(step: Sequence[Request]) -> int:
    """Return the number of chips of a step."""
    return sum(len(request.chips) for request in step)


def _sum(values: Iterable[float]) -> float:
    """Return a sum that is rounded once, so that it does not depend on the order."""
    listed = list(values)
    return math.fsum(listed) if all(map(math.isfinite, listed)) else sum(listed)
