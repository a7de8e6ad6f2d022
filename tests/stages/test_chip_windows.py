from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.crs
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding
from rvbuild.stages.chip.windows import candidates, survives, uniform, why_none
from tests.stages.sample_scenes import CHIP, CRS, TRANSFORM, write_aoi

GRID = Grid(100, 120, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))


def area(folder: Path, *boxes: tuple[float, float, float, float]) -> Aoi:
    aoi = open_aoi([write_aoi(folder / "aoi.geojson", *boxes)], GRID)
    assert aoi is not None
    return aoi


def windows(aoi: Aoi | None = None, seed: int = 7, **chip: Any) -> list[Window]:
    return candidates(GRID, aoi, {**CHIP, **chip}, seed)


def test_sliding_windows_are_the_global_grid() -> None:
    assert windows(stride_px=10) == sliding(100, 120, 16, 10)


def test_sliding_windows_lie_in_the_area_or_touch_it(tmp_path: Path) -> None:
    aoi = area(tmp_path, (16, 16, 60, 60))
    within = windows(aoi)
    touching = windows(aoi, within_aoi=False)
    assert within == [Window(row, col, 16, 16) for row in (16, 32) for col in (16, 32)]
    assert touching == [Window(row, col, 16, 16) for row in (16, 32, 48) for col in (16, 32, 48)]


def test_an_area_beyond_the_scene_keeps_overhanging_windows(tmp_path: Path) -> None:
    assert windows(area(tmp_path, (0, 0, 100, 120))) == sliding(100, 120, 16, 16)


def test_two_polygons_side_by_side_are_one_area(tmp_path: Path) -> None:
    assert windows(area(tmp_path, (0, 0, 16, 5), (0, 5, 16, 16))) == [Window(0, 0, 16, 16)]


def test_random_windows_lie_in_the_scene_at_all_its_places() -> None:
    drawn = windows(method="random", per_scene=3000)
    assert len(drawn) == 3000
    assert all(w.inside(100, 120) and w.height == w.width == 16 for w in drawn)
    rows, cols = np.array(drawn)[:, 0], np.array(drawn)[:, 1]
    assert set(rows) == set(range(85))
    assert set(cols) == set(range(105))
    # Uniform: the mean of 3000 places is within 4 standard errors of the middle.
    assert abs(rows.mean() - 42) < 4 * 85 / np.sqrt(12 * 3000)
    assert abs(np.corrcoef(rows, cols)[0, 1]) < 4 / np.sqrt(3000)


def test_random_sizes_take_both_limits() -> None:
    drawn = windows(method="random", per_scene=300, size_limits_px=[10, 13])
    assert {w.height for w in drawn} == {w.width for w in drawn} == {10, 11, 12, 13}


def test_a_window_larger_than_the_scene_overhangs_from_its_corner() -> None:
    drawn = windows(method="random", per_scene=20, size_px=110, size_limits_px=None)
    assert {w.row for w in drawn} == {0}
    assert {w.col for w in drawn} == set(range(11)) & {w.col for w in drawn}
    assert len({w.col for w in drawn}) > 3


def test_a_random_window_depends_on_seed_and_number_alone() -> None:
    assert windows(method="random", per_scene=5) == windows(method="random", per_scene=9)[:5]
    assert windows(method="random") != windows(method="random", seed=8)


def test_random_windows_lie_in_the_area_or_touch_it(tmp_path: Path) -> None:
    aoi = area(tmp_path, (40, 40, 60, 60))
    within = windows(aoi, method="random", per_scene=200)
    touching = windows(aoi, method="random", per_scene=200, within_aoi=False)
    assert len(within) == len(touching) == 200
    assert {w.row for w in within} == {w.col for w in within} == {40, 41, 42, 43, 44}
    assert all(24 < w.row < 60 and 24 < w.col < 60 for w in touching)
    assert min(w.row for w in touching) < 30
    assert max(w.col for w in touching) > 54


def test_random_windows_in_an_area_that_is_no_box(tmp_path: Path) -> None:
    aoi = area(tmp_path, (0, 0, 20, 20), (80, 100, 100, 120))
    drawn = windows(aoi, method="random", per_scene=100)
    assert len(drawn) == 100
    assert all(aoi.contains(w) for w in drawn)
    assert {w.row < 50 for w in drawn} == {True, False}


def test_an_area_too_small_for_a_window_gives_none(tmp_path: Path) -> None:
    aoi = area(tmp_path, (40, 40, 50, 50))
    assert windows(aoi, method="random", per_scene=3) == []
    assert windows(aoi) == []


def test_survival_is_decided_window_by_window() -> None:
    places = [Window(row, col, 16, 16) for row in range(60) for col in range(60)]
    kept = [survives(window, 3, 0.3) for window in places]
    assert abs(np.mean(kept) - 0.3) < 0.03
    assert [survives(window, 3, 0.3) for window in reversed(places)] == kept[::-1]
    assert [survives(window, 4, 0.3) for window in places] != kept
    assert not any(survives(window, 3, 0.0) for window in places)
    assert all(survives(window, 3, 1.0) for window in places)


def test_uniform_never_changes() -> None:
    """The chips of every project hang on these numbers."""
    assert uniform(0, "row", 1, 2) == 0.8052936117017302
    assert uniform(7, "keep", 0, 0, 16, 16) == 0.1779984731221056


LENGTHS = st.tuples(st.integers(1, 60), st.integers(1, 60))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(LENGTHS, st.integers(1, 30), LENGTHS, st.sampled_from(["end", "start", "both"]))
def test_windows_without_a_set_padding_cover_the_scene(
    shape: tuple[int, int], size: int, stride: tuple[int, int], direction: str
) -> None:
    grid = Grid(*shape, TRANSFORM, None)
    stride = (min(stride[0], size), min(stride[1], size))
    chip = {**CHIP, "size_px": size, "stride_px": list(stride), "pad_direction": direction}
    drawn = candidates(grid, None, chip, 0)
    seen = np.zeros(shape, dtype=bool)
    for window in drawn:
        part = window.clip(*shape)
        assert part.height
        assert part.width
        seen[part.slices_in(grid.window)] = True
    assert seen.all()
    rows = sorted({window.row for window in drawn})
    assert set(np.diff(rows)) <= {stride[0]}
    # As few as can cover it, with nothing beyond the side that is not padded.
    assert len(rows) == max(0, -(-(shape[0] - size) // stride[0])) + 1
    if direction == "end":
        assert rows[0] == 0
    elif direction == "start":
        assert rows[-1] + size == shape[0] or shape[0] <= size
    else:
        assert abs(-rows[0] - (rows[-1] + size - shape[0])) <= 1


@settings(max_examples=300, deadline=None)
@given(LENGTHS, st.integers(1, 30), LENGTHS, LENGTHS, st.sampled_from(["end", "start", "both"]))
def test_windows_with_a_set_padding_are_all_of_the_grid_that_fit(
    shape: tuple[int, int], size: int, stride: tuple[int, int], padding: tuple[int, int], direction: str
) -> None:
    grid = Grid(*shape, TRANSFORM, None)
    chip = {**CHIP, "size_px": size, "stride_px": stride, "padding_px": padding, "pad_direction": direction}
    corners = [(window.row, window.col) for window in candidates(grid, None, chip, 0)]

    def places(axis: int) -> list[int]:
        before, after = (0 if direction == no else padding[axis] for no in ("end", "start"))
        fitting = range(-before, shape[axis] + after - size + 1, stride[axis])
        return [start for start in fitting if start + size > 0 and start < shape[axis]]

    assert corners == [(row, col) for row in places(0) for col in places(1)]


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(1, 40), st.integers(0, 20), st.integers(0, 20), st.integers(0, 40), st.integers(0, 100))
def test_random_windows_have_sizes_within_the_limits_and_lie_in_scene_and_padding(
    shape: tuple[int, int], height: int, more: int, less: int, padding: int, seed: int
) -> None:
    limits = {"height_limits_px": [height, height + more], "width_limits_px": [height + less, height + less]}
    chip = {**CHIP, "method": "random", "per_scene": 8, "padding_px": padding, **limits}
    drawn = candidates(Grid(*shape, TRANSFORM, None), None, chip, seed)
    assert len(drawn) == 8
    for window in drawn:
        assert height <= window.height <= height + more
        assert window.width == height + less
        assert window.clip(*shape).height
        for start, size, length in ((window.row, window.height, shape[0]), (window.col, window.width, shape[1])):
            if size <= length + 2 * padding:
                assert -padding <= start <= length + padding - size
            else:
                assert start == 0


def test_random_windows_take_all_places_of_the_padding() -> None:
    drawn = windows(method="random", per_scene=4000, padding_px=[10, 0])
    assert {window.row for window in drawn} == set(range(-10, 100 + 10 - 16 + 1))
    assert {window.col for window in drawn} == set(range(120 - 16 + 1))


def test_padding_is_beyond_an_area_only_where_that_ends_with_the_scene(tmp_path: Path) -> None:
    aoi = area(tmp_path, (0, 50, 40, 120))
    drawn = windows(aoi, method="random", per_scene=1500, padding_px=8)
    assert all(aoi.contains(window) for window in drawn)
    assert {window.row for window in drawn} == set(range(-8, 40 - 16 + 1))
    assert {window.col for window in drawn} == set(range(50, 120 + 8 - 16 + 1))


def test_the_number_of_attempts(tmp_path: Path) -> None:
    aoi = area(tmp_path, (0, 0, 16, 16), (80, 100, 96, 116))  # two places of 8 000
    assert len(windows(aoi, method="random", per_scene=5, max_attempts=1)) < 5
    assert windows(aoi, method="random", per_scene=5, max_attempts=10**6) != []


@pytest.mark.parametrize(
    ("box", "chip", "message"),
    [
        ((200, 200, 210, 210), {}, "the area of interest does not overlap the image"),
        (
            (40, 40, 50, 52),
            {},
            r"no window lies entirely in the area .*12 x 10 px .*size_px = 16.*chip.within_aoi = false",
        ),
        (None, {"size_px": 200, "padding_px": 3}, r"200 px do not fit into the image of 120 x 100 px.*chip.padding_px"),
    ],
)
def test_why_there_is_no_window(tmp_path: Path, box: Any, chip: dict[str, Any], message: str) -> None:
    aoi = None if box is None else area(tmp_path, box)
    assert windows(aoi, **chip) == []
    assert re.search(message, why_none(GRID, aoi, {**CHIP, **chip}))
