"""What the processes of a training tell each other, in processes that are forked: nothing here learns."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rvbuild.errors import PeerLostError
from rvbuild.learn.shards.group import Connected, Group, connected
from rvbuild.learn.shards.meeting import Here
from rvbuild.learn.shards.tree import total

LENGTH = 50


def of_shard(shard: int) -> torch.Tensor:
    """Return numbers whose sum depends on its order."""
    generator = torch.Generator().manual_seed(shard)
    return torch.randn(LENGTH, generator=generator) * 10.0 ** torch.randint(-6, 6, (LENGTH,), generator=generator)


def run(folder: Path, shards: int, processes: int, work: Callable[[Group], Any]) -> list[Any]:
    """Return what each process returns; an exception is its name, and a signal its number."""
    context = multiprocessing.get_context("fork")

    def serve(rank: int, pipe: Any) -> None:
        torch.set_num_threads(1)
        try:
            with connected(shards, rank, processes, Here(folder / "meeting"), torch.device("cpu")) as group:
                pipe.send(work(group))
        except Exception as error:
            pipe.send(type(error).__name__)
        os._exit(0)

    pipes = []
    for rank in range(processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(rank, theirs))
        process.start()
        theirs.close()
        pipes.append((ours, process))
    results = []
    for pipe, process in pipes:
        try:
            results.append(pipe.recv())
        except EOFError:
            results.append(None)
        process.join()
    return results


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "processes"), [(2, 2), (3, 2), (4, 4), (6, 5)])
def test_any_number_of_processes_has_the_same_sum(tmp_path: Path, shards: int, processes: int) -> None:
    whole = total(range(shards), of_shard, torch.add)
    backwards = sum((of_shard(shard) for shard in reversed(range(shards - 1))), of_shard(shards - 1))
    assert shards == 2 or not torch.equal(whole, backwards)

    def work(group: Group) -> Any:
        assert isinstance(group, Connected)
        own = torch.zeros(shards, dtype=torch.float64)
        own[list(group.node)] = torch.tensor([1 / (shard + 3) for shard in group.node], dtype=torch.float64)
        same = torch.full((3, 2), float(group.node.start))
        group.equalize([same, torch.zeros(0)])
        with group.in_turn():
            (tmp_path / "turns").open("a").write("first\n" if group.first else "other\n")
        sums = group.total(total(group.node, of_shard, torch.add))
        start, values = group.shared((group.node.start, sums))
        return (
            sums.numpy().tobytes(),
            group.united(own).tolist(),
            group.gathered(group.node.start),
            list(group.part(range(7))),
            same.tolist(),
            (start, values.numpy().tobytes()),
        )

    results = run(tmp_path, shards, processes, work)
    starts = results[0][2]
    assert starts == sorted(starts) and len(starts) == processes
    assert [item for result in results for item in result[3]] == list(range(7))
    for sums, united, gathered, _, same, (start, shared) in results:
        assert start == 0 and shared == whole.numpy().tobytes()
        assert sums == whole.numpy().tobytes()
        assert united == [1 / (shard + 3) for shard in range(shards)]
        assert gathered == starts and same == [[0.0, 0.0]] * 3
    turns = (tmp_path / "turns").read_text().split()
    assert turns[0] == "first" and len(turns) == processes


@pytest.mark.slow
def test_who_loses_another_notices(tmp_path: Path) -> None:
    def work(group: Group) -> Any:
        group.gathered(None)
        if not group.first:
            os.kill(os.getpid(), signal.SIGKILL)
        return group.total(torch.ones(4))

    assert run(tmp_path, 2, 2, work) == [PeerLostError.__name__, None]
