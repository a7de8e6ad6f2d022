"""Which windows of a scene may become chips: sliding or seeded random ones, inside the area of interest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from rvbuild.geo.aoi import Aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding
from rvbuild.tasks.protocol import Aim, Span

ATTEMPTS = 10_000
"""How often a place is drawn for one random window before the area of interest counts as too small for any more."""

AIMED_ATTEMPTS = 100
"""How often a place is drawn for one window that is to show a box, or none."""


def candidates(
    grid: Grid,
    aoi: Aoi | None,
    chip: Mapping[str, Any],
    seed: int,
    prescribed: Sequence[Window] | None = None,
    aim: Aim | None = None,
) -> list[Window]:
    """Return the windows that may become chips.

    Parameters
    ----------
    grid
        The pixel grid of the scene.
    aoi
        The area of interest, or None for the whole scene. With `within_aoi` a window's part inside the scene lies in
        the area wholly, without it the two intersect.
    chip
        The `chip` settings. "sliding": the global grid of windows, row-major. "random": `per_scene` squares, each of a
        size and place that follow from the seed and its number alone, inside the scene if they fit.
    seed
        The seed of this artifact.
    prescribed
        With "sliding": windows to take instead of the grid's, or None.
    aim
        What chooses among them, and where random ones go; a random window that finds no place in `AIMED_ATTEMPTS` is
        left out.
    """
    if chip["method"] == "sliding":
        windows = prescribed
        if windows is None:
            windows = sliding(grid.height, grid.width, chip["size_px"], chip["stride_px"])
        allowed = [window for window in windows if _allowed(window, aoi, chip["within_aoi"])]
        return allowed if aim is None else aim.choose(allowed)
    found: list[Window] = []
    for number in range(chip["per_scene"]):
        window = _random_window(number, grid, aoi, chip, seed, aim)
        if window is not None:
            found.append(window)
        elif aim is None:
            break
    return found


def survives(window: Window, seed: int, probability: float) -> bool:
    """Decide by the seed and the window alone whether one of a kind that is kept with `probability` is kept."""
    return uniform(seed, "keep", *window) < probability


def uniform(seed: int, *parts: int | str) -> float:
    """Return a number in [0, 1) that is a function of its arguments, the same with every version of every library."""
    digest = xxhash.xxh3_64_intdigest(repr((seed, *parts)).encode())
    return float((digest >> 11) * 2.0**-53)


def _random_window(
    number: int, grid: Grid, aoi: Aoi | None, chip: Mapping[str, Any], seed: int, aim: Aim | None
) -> Window | None:
    """Draw sizes and places until one is allowed; None if there is none after many attempts."""
    smallest, largest = chip["size_limits_px"] or (chip["size_px"], chip["size_px"])
    for attempt in range(AIMED_ATTEMPTS if aim is not None else 1 if aoi is None else ATTEMPTS):
        size = _integer(smallest, largest, uniform(seed, "size", number, attempt))
        rows, cols = _places(size, grid, aoi, chip["within_aoi"])
        aimed = None if aim is None else aim.spans(number, attempt, size)
        if aimed is not None:
            rows, cols = _both(rows, aimed[0]), _both(cols, aimed[1])
        if rows is None or cols is None:
            continue
        row = _integer(*rows, uniform(seed, "row", number, attempt))
        col = _integer(*cols, uniform(seed, "col", number, attempt))
        window = Window(row, col, size, size)
        if _allowed(window, aoi, chip["within_aoi"]) and (aim is None or aim.accepts(number, window)):
            return window
    return None


def _both(one: Span | None, other: Span) -> Span | None:
    """Return the places that are in both."""
    if one is None:
        return None
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low <= high else None


def _places(size: int, grid: Grid, aoi: Aoi | None, within: bool) -> tuple[Span | None, Span | None]:
    """Return the rows and the columns that a window may start at so that it lies in the scene and may be allowed."""
    area = grid.window if aoi is None else aoi.bounds
    rows = _span(size, grid.height, area.row, area.row_stop, within)
    cols = _span(size, grid.width, area.col, area.col_stop, within)
    return rows, cols


def _span(size: int, length: int, start: int, stop: int, within: bool) -> Span | None:
    """Return where a window may start along one axis of a scene whose area reaches from `start` to `stop`."""
    low, high = (start, stop - size) if within else (start - size + 1, stop - 1)
    if size >= length:
        # It cannot lie inside the scene, and it covers the scene from the first pixel on.
        low = high = 0
    low, high = max(low, 0), min(high, max(0, length - size))
    return (low, high) if low <= high else None


def _integer(low: int, high: int, share: float) -> int:
    """Return the whole number from `low` to `high`, both included, at a share in [0, 1) of the way."""
    return low + int(share * (high - low + 1))


def _allowed(window: Window, aoi: Aoi | None, within: bool) -> bool:
    if aoi is None:
        return True
    return aoi.allows(window, within)
