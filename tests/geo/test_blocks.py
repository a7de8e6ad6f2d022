from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi, Part, open_aoi
from rvbuild.geo.area.blocks import choose, edges
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.stages.chip.windows import candidates
from rvbuild.tasks.classification import task as chip_classification

Write = Callable[..., Path]
Square = Callable[..., dict[str, Any]]

SPLITS = ("train", "validation", "test")
CHIP = {"per_scene": 12, "size_limits_px": None, "within_aoi": True}


def grid_of(height: int, width: int) -> Grid:
    return Grid(height, width, Affine.identity(), None)


def split_settings(split: str, block_px: int, seed: int = 0, **changes: Any) -> dict[str, Any]:
    shares = {"validation": {"fraction": 0.25}, "test": {"fraction": 0.25}, **changes}
    return {"blocks": {"split": split, "block_px": block_px, "seed": seed, **shares}}


def parts(grid: Grid, aoi: Aoi | None, block_px: int, seed: int, **shares: Any) -> dict[str, Part]:
    counts = (lambda _: True) if aoi is None else aoi.intersects
    return {
        split: Part(choose(grid, split_settings(split, block_px, seed, **shares)["blocks"], counts), aoi)
        for split in SPLITS
    }


AREAS = st.sampled_from(
    [
        None,
        [shapely.box(3.3, 10.1, 75.2, 88.8)],
        [shapely.Point(40, 40).buffer(38), shapely.box(60, 60, 90, 90)],
        [shapely.box(0, 0, 95, 95).difference(shapely.box(20.5, 20.5, 70.5, 70.5))],
    ]
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(60, 100),
    width=st.integers(60, 100),
    block_px=st.integers(12, 30),
    size=st.integers(5, 12),
    stride=st.integers(3, 12),
    method=st.sampled_from(["sliding", "random"]),
    within=st.booleans(),
    padding=st.sampled_from([None, 0, 7, [3, 11]]),
    direction=st.sampled_from(["end", "start", "both"]),
    shapes=AREAS,
    seed=st.integers(0, 5),
)
def test_splits_never_share_a_pixel(
    height: int,
    width: int,
    block_px: int,
    size: int,
    stride: int,
    method: str,
    within: bool,
    padding: Any,
    direction: str,
    shapes: Any,
    seed: int,
) -> None:
    grid = grid_of(height, width)
    aoi = None if shapes is None else Aoi(shapes, grid)
    chip = {**CHIP, "method": method, "size_px": size, "stride_px": stride, "within_aoi": within}
    chip |= {"padding_px": padding, "pad_direction": direction}
    whole = np.ones((height, width), bool) if aoi is None else aoi.mask(grid.window)
    seen = np.zeros((height, width), int)
    chips = np.zeros((height, width), int)
    for part in parts(grid, aoi, block_px, seed).values():
        mask = part.mask(grid.window)
        seen += mask
        cut = np.zeros((height, width), bool)
        for window in candidates(grid, part, chip, seed):
            assert part.blocks.contains(window), "a chip lies wholly in the blocks of its split"
            inside = window.clip(height, width)
            assert part.blocks.mask(window)[inside.slices_in(window)].all()
            cut[inside.slices_in(grid.window)] = True
        chips += cut
        assert not (mask & ~part.blocks.mask(grid.window)).any()
    np.testing.assert_array_equal(seen, whole.astype(int), "each pixel of the area is in one split")
    assert chips.max() <= 1, "no pixel is in chips of two splits"


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(12, 30), st.integers(4, 12), st.integers(0, 5), AREAS)
def test_cells_of_two_splits_never_share_a_pixel(block_px: int, cell_px: int, seed: int, shapes: Any) -> None:
    grid = grid_of(90, 80)
    aoi = None if shapes is None else Aoi(shapes, grid)
    cells = np.zeros((90, 80), int)
    for part in parts(grid, aoi, block_px, seed).values():
        own = part.blocks.mask(grid.window)
        for window in chip_classification.windows(grid, part, {"predict": {"cell_px": cell_px}}):
            inside = window.clip(90, 80).slices_in(grid.window)
            assert own[inside].all()
            cells[inside] += 1
    assert cells.max() <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(-15, 100), st.integers(-15, 100), st.integers(1, 50), st.integers(1, 50), st.integers(0, 3), AREAS)
def test_windows_are_judged_as_the_mask_says(
    row: int, col: int, height: int, width: int, seed: int, shapes: Any
) -> None:
    grid, window = grid_of(90, 80), Window(row, col, height, width)
    aoi = None if shapes is None else Aoi(shapes, grid)
    part = parts(grid, aoi, 25, seed)["train"]
    whole = part.mask(grid.window)
    inside = window.clip(90, 80)
    seen = whole[inside.slices_in(grid.window)]
    np.testing.assert_array_equal(part.mask(window)[inside.slices_in(window)], seen)
    assert part.mask(window).sum() == seen.sum()
    assert part.intersects(window) >= bool(seen.any())
    blocks = part.blocks.mask(grid.window)[inside.slices_in(grid.window)]
    assert part.blocks.contains(window) == (bool(inside.height and inside.width) and bool(blocks.all()))
    if aoi is None:
        assert part.contains(window) == part.contains_centre(window) == part.blocks.contains(window)
        assert part.intersects(window) == bool(seen.any())
    elif part.contains(window):
        assert seen.all()
    rows, cols = np.nonzero(whole)
    bounds = part.bounds
    assert (bounds.row <= rows.min(), bounds.row_stop > rows.max()) == (True, True)
    assert (bounds.col <= cols.min(), bounds.col_stop > cols.max()) == (True, True)


def test_what_is_less_than_half_a_block_belongs_to_the_one_before() -> None:
    assert edges(1000, 300).tolist() == [0, 300, 600, 1000]
    assert edges(1050, 300).tolist() == [0, 300, 600, 900, 1050]
    assert edges(100, 300).tolist() == [0, 100]


def test_a_multiple_of_the_stride_loses_no_chip() -> None:
    grid = grid_of(400, 400)
    chip = {**CHIP, "method": "sliding", "size_px": 20, "stride_px": 20}
    windows = [window for part in parts(grid, None, 100, 0).values() for window in candidates(grid, part, chip, 0)]
    assert len(windows) == 400


def test_blocks_without_a_part_of_the_area_do_not_count(tmp_path: Path, write_geojson: Write, square: Square) -> None:
    path = write_geojson(tmp_path / "aoi.geojson", [(square(0, 0, 20, 20), {}), (square(60, 60, 80, 80), {})])
    for split in SPLITS[:2]:
        part = open_aoi([path], grid_of(100, 100), split_settings(split, 20, test=None))
        assert isinstance(part, Part)
        assert part.mask(Window(0, 0, 100, 100)).sum() == 400


def test_another_share_moves_no_block_that_it_need_not() -> None:
    grid = grid_of(200, 200)
    few, many = (parts(grid, None, 20, 0, validation={"fraction": share}) for share in (0.2, 0.3))
    small, large = few["validation"].mask(grid.window), many["validation"].mask(grid.window)
    assert small.sum() == 0.2 * 200 * 200
    assert (large & small).sum() == small.sum()
    np.testing.assert_array_equal(few["test"].mask(grid.window), many["test"].mask(grid.window))
    assert (parts(grid, None, 20, 1)["test"].mask(grid.window) != few["test"].mask(grid.window)).any()


def test_too_few_blocks_are_told() -> None:
    expected = (
        r"at least 2 blocks of 1024 px to split .* found 1 in the area of a scene of 700 x 500 px \(width x height\)\. "
        r'Set `block_px` to (\d+) or less, or split by whole scenes with `by = "scene"`'
    )
    grid = grid_of(500, 700)
    with pytest.raises(DataError, match=expected) as caught:
        open_aoi([], grid, split_settings("train", 1024, test=None))
    advised = int(str(caught.value).split("`block_px` to ")[1].split()[0])
    assert open_aoi([], grid, split_settings("train", advised, test=None)) is not None
    with pytest.raises(DataError, match=r"at least 5 blocks of 400 px .* found 2"):
        open_aoi([], grid, split_settings("validation", 400, test=None, validation={"folds": 5, "fold": 1}))


def test_an_area_too_small_for_any_blocks_is_told_soon() -> None:
    asked = 0

    def counts(window: Window) -> bool:
        nonlocal asked
        asked += 1
        return window.row == window.col == 0

    with pytest.raises(DataError, match=r"found 1 in the area .* Enlarge the area of interest, or split by whole"):
        choose(grid_of(30_000, 30_000), split_settings("train", 4096)["blocks"], counts)
    assert asked < 100_000
