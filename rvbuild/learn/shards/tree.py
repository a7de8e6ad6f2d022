"""The binary tree along which values of shards are summed, and who computes which part of it.

Sums of floating-point numbers depend on their order. Here the order is that of one tree over the shards, so it is the
same for any number of processes: each of them computes one node of the tree, with all shards below it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def cut(items: Sequence[Item], shards: int) -> list[Sequence[Item]]:
    """Cut items into one part for each shard, in order; the first parts have one more where it does not come out even.

    >>> cut("abcdefgh", 3), cut("ab", 3)
    (['abc', 'def', 'gh'], ['a', 'b', ''])
    """
    size, more = divmod(len(items), shards)
    starts = [shard * size + min(shard, more) for shard in range(shards + 1)]
    return [items[start:stop] for start, stop in itertools.pairwise(starts)]


def halves(part: range) -> tuple[range, range]:
    """Return the two children of a node, which is a range of shards; the left one is not smaller.

    >>> halves(range(5))
    (range(0, 3), range(3, 5))
    """
    middle = (part.start + part.stop + 1) // 2
    return range(part.start, middle), range(middle, part.stop)


def nodes_of(part: range, processes: int) -> list[range]:
    """Return the node of each process: together they are all shards below `part`.

    Parameters
    ----------
    part
        A node.
    processes
        Their number, at most that of the shards.

    Examples
    --------
    >>> nodes_of(range(4), 2), nodes_of(range(5), 3)
    ([range(0, 2), range(2, 4)], [range(0, 2), range(2, 3), range(3, 5)])
    """
    if processes == 1:
        return [part]
    left, right = halves(part)
    fair = round(processes * len(left) / len(part))
    of_left = min(max(fair, 1, processes - len(right)), len(left), processes - 1)
    return nodes_of(left, of_left) + nodes_of(right, processes - of_left)


def total(part: range, of_shard: Callable[[int], Value], add: Callable[[Value, Value], Value]) -> Value:
    """Return the sum of the values of the shards below a node, along the tree.

    Values are computed in order, and no more than one for each level of the tree is kept at once.
    """
    if len(part) == 1:
        return of_shard(part.start)
    left, right = halves(part)
    first = total(left, of_shard, add)
    return add(first, total(right, of_shard, add))
