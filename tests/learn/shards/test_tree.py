"""The tree along which shards are summed: the same order of sums, whoever computes which part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.learn.shards.tree import cut, halves, nodes_of, total


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_parts_are_all_items_in_order_and_of_one_size(items: list[int], shards: int) -> None:
    parts = cut(items, shards)
    assert len(parts) == shards and [item for part in parts for item in part] == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("shards", range(1, 17))
def test_each_number_of_processes_has_nodes_of_the_tree(shards: int) -> None:
    def nodes(part: range) -> set[range]:
        return {part} if len(part) == 1 else {part}.union(*map(nodes, halves(part)))

    for processes in range(1, shards + 1):
        parts = nodes_of(range(shards), processes)
        assert len(parts) == processes and set(parts) <= nodes(range(shards))
        assert [shard for part in parts for shard in part] == list(range(shards))
        fair = -(-shards // processes)
        assert max(map(len, parts)) <= 2 * fair
        if shards % processes == 0 and processes in (1, 2, 4, 8):
            assert {len(part) for part in parts} <= {fair, fair + 1}


@given(st.integers(1, 9), st.data())
def test_sums_have_one_shape(shards: int, data: st.DataObject) -> None:
    processes = data.draw(st.integers(1, shards))
    whole = total(range(shards), str, "({} {})".format)
    nodes = nodes_of(range(shards), processes)
    known = {node: total(node, str, "({} {})".format) for node in nodes}

    def joined(part: range) -> str:
        return known[part] if part in known else "({} {})".format(*map(joined, halves(part)))

    assert joined(range(shards)) == whole
