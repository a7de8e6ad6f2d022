from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio.crs

from rvbuild.geo.aoi import Aoi, open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding
from rvbuild.stages.chip_windows import candidates, survives, uniform
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
    found = windows(method="random", per_scene=3000)
    assert len(found) == 3000
    assert all(w.inside(100, 120) and w.height == w.width == 16 for w in found)
    rows, cols = np.array(found)[:, 0], np.array(found)[:, 1]
    assert set(rows) == set(range(85))
    assert set(cols) == set(range(105))
    # Uniform: the mean of 3000 places is within 4 standard errors of the middle.
    assert abs(rows.mean() - 42) < 4 * 85 / np.sqrt(12 * 3000)
    assert abs(np.corrcoef(rows, cols)[0, 1]) < 4 / np.sqrt(3000)


def test_random_sizes_take_both_limits() -> None:
    found = windows(method="random", per_scene=300, size_limits_px=[10, 13])
    assert {w.height for w in found} == {w.width for w in found} == {10, 11, 12, 13}


def test_a_window_larger_than_the_scene_overhangs_from_its_corner() -> None:
    found = windows(method="random", per_scene=20, size_px=110, size_limits_px=None)
    assert {w.row for w in found} == {0}
    assert {w.col for w in found} == set(range(11)) & {w.col for w in found}
    assert len({w.col for w in found}) > 3


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
    found = windows(aoi, method="random", per_scene=100)
    assert len(found) == 100
    assert all(aoi.contains(w) for w in found)
    assert {w.row < 50 for w in found} == {True, False}


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
