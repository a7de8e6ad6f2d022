from __future__ import annotations

import itertools

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding
from rvbuild.stages.chip import blocks as chip_blocks
from rvbuild.stages.chip.blocks import Block, blocks, pieces, side_of

GRID = Grid(100, 130, Affine.identity(), None)
WINDOWS = st.lists(st.builds(Window, st.integers(-20, 110), st.integers(-20, 140), st.just(16), st.just(16)))


@pytest.mark.slow
@given(WINDOWS, st.integers(1, 200), st.randoms())
def test_every_window_is_in_one_block_whatever_the_others_are(windows, side_px, random):
    by_block = blocks(windows, GRID, side_px)
    assert sorted(w for block in by_block for w in block.windows) == sorted(windows)
    assert [block.number for block in by_block] == sorted({block.number for block in by_block})
    place = {window: block.number for block in by_block for window in block.windows}
    sample = random.sample(windows, len(windows) // 2)
    assert {w: b.number for b in blocks(sample, GRID, side_px) for w in b.windows} == {w: place[w] for w in sample}


def test_blocks_of_sliding_windows_are_squares_of_them():
    by_block = blocks(sliding(100, 130, 10, 10), GRID, 40)
    assert [len(block.windows) for block in by_block] == [16, 16, 16, 4, 16, 16, 16, 4, 8, 8, 8, 2]
    assert [(block.number, block.row) for block in by_block][4:6] == [(4, 1), (5, 1)]
    assert by_block[5].area == Window(40, 40, 40, 40)
    assert by_block[0].windows[:5] == [Window(0, col, 10, 10) for col in (0, 10, 20, 30)] + [Window(10, 0, 10, 10)]


def test_the_images_of_a_block_have_about_a_given_size(monkeypatch):
    monkeypatch.setattr(chip_blocks, "BLOCK_BYTES", 100_000)
    sliding_chips = {"method": "sliding", "stride_px": 50}
    assert side_of(sliding_chips, 10_000, 1) == 3 * 50
    assert side_of(sliding_chips, 200_000, 1) == 50
    random_chips = {"method": "random", "per_scene": 1000}
    side = side_of(random_chips, 10_000, 4000 * 4000)
    assert side == 400
    assert 1000 * side**2 == 10 * 4000**2  # 10 of 10 kB each


@pytest.mark.parametrize(("rows", "columns", "least"), [(1, 1, 8), (1, 5, 8), (3, 3, 8), (10, 10, 8), (1, 40, 2)])
def test_pieces_are_neighbours_in_a_row_and_enough_for_all_threads(rows, columns, least):
    every = [Block(row * columns + col, row, []) for row, col in itertools.product(range(rows), range(columns))]
    parts = pieces(every, least)
    assert [block for piece in parts for block in piece] == every
    assert len(parts) >= min(least, len(every))
    assert all(len({block.row for block in piece}) == 1 for piece in parts)
    assert max(map(len, parts)) <= chip_blocks.MAX_PIECE


def test_no_blocks_no_pieces():
    assert pieces([], 8) == []
