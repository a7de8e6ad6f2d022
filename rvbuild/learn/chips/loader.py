"""Batches of chips, prepared ahead of the training by a thread or by processes, with the same result."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rvbuild.language.user_code import Served
from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.chips.mixing import Mixed, Mixer
from rvbuild.learn.device import kept_random_state
from rvbuild.learn.hooks import Sample, TargetOps

AHEAD = 2
"""Number of batches prepared in advance."""


class Request(NamedTuple):
    """Which chips make a batch."""

    split: str
    """`"train"` or `"validation"`."""
    chips: Sequence[int]
    epoch: int | None
    """The epoch, which determines the augmentation; None: chips without augmentation."""


class Batch(NamedTuple):
    """One batch, still in raw values."""

    images: torch.Tensor
    """(N, C, H, W) in the source dtype."""
    valid: torch.Tensor | None
    """(N, C, H, W) bool, or None if every pixel has data."""
    targets: dict[str, Any]


class BatchMaker(Dataset[Batch]):
    """Creates a batch from a request: a pure function in any process."""

    def __init__(
        self, splits: Mapping[str, Chips], ops: TargetOps, augmenter: Augmenter, seed: int, mixer: Mixer | None = None
    ) -> None:
        self._code = Served()  # first, because unpickling the rest imports user functions
        self._mixer = mixer
        self._splits = dict(splits)
        self._ops = ops
        self._augmenter = augmenter
        self._seed = seed

    def __getitem__(self, request: Request) -> Batch:
        """Read, augment and copy the chips of `request`."""
        chips = self._splits[request.split]
        shape = (len(request.chips), chips.bands, chips.size_px, chips.size_px)
        images, valid, targets = np.empty(shape, dtype=np.dtype(chips.dtype)), None, []
        mixed: list[Mixed] = []
        if request.epoch is not None and self._mixer is not None:
            seeds = [(self._seed, request.epoch, position) for position in request.chips]
            mixed = self._mixer([self._sample(chips, request, position) for position in request.chips], seeds)
        for place, position in enumerate(request.chips):
            sample = mixed[place].sample if mixed else self._sample(chips, request, position)
            images[place] = sample.image
            if sample.valid is not None:
                if valid is None:
                    valid = np.ones(shape, dtype=bool)
                valid[place] = sample.valid
            targets.append(sample.target)
        together = self._mixer.targets(mixed) if mixed and self._mixer is not None else self._ops.collate(targets)
        return Batch(torch.from_numpy(images), None if valid is None else torch.from_numpy(valid), together)

    def _sample(self, chips: Chips, request: Request, position: int) -> Sample:
        """Return a chip, augmented if it is for an epoch."""
        if request.epoch is None:
            return chips[position]
        return self._augmenter(chips[position], (self._seed, request.epoch, position))


class Loader:
    """Yields batches in order.

    Parameters
    ----------
    maker
        The function that creates them.
    workers
        Processes that do so; 0: a thread of this process.
    ahead
        False: nothing runs in parallel, because creating batches draws from global random generators.
    """

    def __init__(self, maker: Dataset[Batch], workers: int, *, ahead: bool = True) -> None:
        self._maker = maker
        self._ahead = ahead
        self._order = _Order()
        self._processes: DataLoader[Batch] | None = None
        if workers:
            self._processes = DataLoader(
                maker,
                batch_size=None,
                sampler=self._order,
                num_workers=workers,
                collate_fn=_same,
                prefetch_factor=AHEAD,
                persistent_workers=True,
                # Forking a process that has threads (torch's, GDAL's) can deadlock.
                multiprocessing_context="spawn",
                # Its own, or else starting an epoch would draw from the generator that a model's dropout uses.
                generator=torch.Generator(),
            )

    def batches(self, requests: Sequence[Request], ahead: int = AHEAD) -> Generator[Batch]:
        """Yield the batch of each request; a thread prepares so many ahead, or `AHEAD` if that is more."""
        if self._processes is not None:
            self._order.requests = requests
            yield from self._processes
        elif not self._ahead:
            for request in requests:
                with kept_random_state():
                    batch = self._maker[request]
                yield batch
        else:
            yield from self._by_thread(requests, max(ahead, AHEAD))

    def _by_thread(self, requests: Sequence[Request], ahead: int) -> Generator[Batch]:
        with ThreadPoolExecutor(1, "rvbuild-chips") as thread:
            left = iter(requests)
            waiting: deque[Future[Batch]] = deque(
                thread.submit(self._maker.__getitem__, r) for r in islice(left, ahead)
            )
            try:
                while waiting:
                    batch = waiting.popleft().result()
                    waiting.extend(thread.submit(self._maker.__getitem__, r) for r in islice(left, 1))
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()


class _Order:
    """A sampler whose order is set before each pass."""

    requests: Sequence[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


def _same(batch: Any) -> Any:
    return batch


def epoch_requests(
    count: int, batch_size: int, seed: int, epoch: int, chances: np.ndarray | None = None
) -> list[Request]:
    """Return the batches of one training epoch, in an order that (seed, epoch) decides.

    Each of `count` chips comes once; or, with `chances`, `(count,)` probabilities, as many are drawn, with repetition.
    A last batch of a single chip is dropped if there are others: batch normalisation cannot learn from one value.
    """
    rng = np.random.default_rng([seed, epoch])
    order = (rng.permutation(count) if chances is None else rng.choice(count, count, p=chances)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and batch_size > 1 and len(batches[-1]) == 1:
        batches.pop()
    return [Request("train", batch, epoch) for batch in batches]


def plain_requests(split: str, positions: Sequence[int], batch_size: int) -> list[Request]:
    """Return batches of chips without augmentation, in the given order."""
    starts = range(0, len(positions), batch_size)
    return [Request(split, list(positions[start : start + batch_size]), None) for start in starts]
