"""The processes of a training, and what they tell each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist

from rvbuild.errors import PeerLostError
from rvbuild.learn.shards.meeting import PATIENCE, Meeting
from rvbuild.learn.shards.tree import cut, halves, nodes_of

Item = TypeVar("Item")


class Group(Protocol):
    """The processes that compute the shards of one training together."""

    first: bool
    """Whether this is the process that writes files and reports."""
    node: range
    """The shards that this process computes."""

    def total(self, own: torch.Tensor) -> torch.Tensor:
        """Return the sum over all shards, along the tree, from the sum over the shards of each process.

        Parameters
        ----------
        own
            One axis, on the device, of the same length in all processes. It may be changed.
        """

    def united(self, own: torch.Tensor) -> torch.Tensor:
        """Return the values of all processes: float64 on the CPU, each of them 0 in all processes but one."""

    def gathered(self, own: Any) -> list[Any]:
        """Return the objects of all processes, in the order of their shards."""

    def shared(self, own: Item) -> Item:
        """Return the object of the first process."""

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items that are for this process; the parts of all processes follow one another."""

    def equalize(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give tensors the values that they have in the first process."""

    def in_turn(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that the first process enters and leaves before the others enter it."""


class Alone:
    """One process, which computes all shards."""

    first = True

    def __init__(self, shards: int) -> None:
        self.node = range(shards)

    def total(self, own: torch.Tensor) -> torch.Tensor:
        """Return it."""
        return own

    def united(self, own: torch.Tensor) -> torch.Tensor:
        """Return them."""
        return own

    def gathered(self, own: Any) -> list[Any]:
        """Return it alone."""
        return [own]

    def shared(self, own: Item) -> Item:
        """Return it."""
        return own

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return all."""
        return items

    def equalize(self, tensors: Iterable[torch.Tensor]) -> None:
        """Do nothing."""

    def in_turn(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()


class Connected:
    """One of several processes, connected by torch: by gloo on CPUs, by NCCL between GPUs.

    Parameters
    ----------
    rank
        Its number, from 0.
    """

    def __init__(self, shards: int, rank: int, processes: int) -> None:
        self.first = rank == 0
        self._rank, self._all = rank, range(shards)
        self._nodes = nodes_of(self._all, processes)
        self.node = self._nodes[rank]

    def total(self, own: torch.Tensor) -> torch.Tensor:
        """Return the sum over all shards; see `Group`."""
        with _noticing():
            return self._total(self._all, own, torch.empty_like(own))

    def united(self, own: torch.Tensor) -> torch.Tensor:
        """Return the values of all processes: exact, because all but one of what is added are 0."""
        values = own.clone()
        with _noticing():
            dist.all_reduce(values)
        return values

    def gathered(self, own: Any) -> list[Any]:
        """Return the objects of all processes."""
        objects: list[Any] = [None] * len(self._nodes)
        with _noticing():
            dist.all_gather_object(objects, own)
        return objects

    def shared(self, own: Item) -> Item:
        """Return the object of the first process."""
        objects = [own]
        with _noticing():
            dist.broadcast_object_list(objects, 0, device=torch.device("cpu"))
        return objects[0]

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items for this process."""
        return cut(items, len(self._nodes))[self._rank]

    def equalize(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give tensors the values of the first process."""
        with _noticing():
            for tensor in tensors:
                values = tensor.detach().contiguous()
                dist.broadcast(values, 0)
                tensor.detach().copy_(values)

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Wait for the first process; see `Group`."""
        if not self.first:
            self.gathered(None)
        yield
        if self.first:
            self.gathered(None)

    def _total(self, part: range, own: torch.Tensor, received: torch.Tensor) -> torch.Tensor:
        """Return the sum over the shards of a node above that of this process; the processes below it all get it.

        At each node, those below its left child and those below its right one exchange their sums.
        """
        if part == self.node:
            return own
        left, right = halves(part)
        here, there = (left, right) if self.node.start in left else (right, left)
        own = self._total(here, own, received)
        ours, theirs = ([rank for rank, node in enumerate(self._nodes) if node.start in side] for side in (here, there))
        place = ours.index(self._rank)
        exchange = [dist.P2POp(dist.irecv, received, theirs[place % len(theirs)])]
        exchange += [
            dist.P2POp(dist.isend, own, rank) for number, rank in enumerate(theirs) if number % len(ours) == place
        ]
        for work in dist.batch_isend_irecv(exchange):
            work.wait()
        # a + b is b + a to the last bit: only what is added matters.
        return own.add_(received)


@contextlib.contextmanager
def connected(shards: int, rank: int, processes: int, meeting: Meeting, device: torch.device) -> Iterator[Connected]:
    """Connect a process with the others for the length of a block.

    Parameters
    ----------
    meeting
        Where they find each other.
    device
        Of this process; its own if it is a GPU.

    Raises
    ------
    PeerLostError
        Another process is gone, or has not come.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with meeting.interface():
        with _noticing():
            store = meeting.store(rank, processes)
            store.set_timeout(PATIENCE)
            dist.init_process_group(
                backend,
                store=store,
                rank=rank,
                world_size=processes,
                timeout=PATIENCE,
                device_id=device if device.type == "cuda" else None,
            )
        try:
            group = Connected(shards, rank, processes)
            yield group
            group.gathered(None)  # or else the first to leave would look as if it were lost
        finally:
            dist.destroy_process_group()


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    """Turn torch's errors of connections into `PeerLostError`."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"the processes of the training lost each other: {error}") from error
