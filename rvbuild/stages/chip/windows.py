"""The windows of a scene that may become chips: sliding or random with a seed, inside the area of interest."""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, squares, starts
from rvbuild.settings.chip import ChipSettings
from rvbuild.tasks.protocol import Aim, Span

ATTEMPTS = 10_000
"""Default number of attempts to place one random window before the area of interest counts as too small for more."""

AIMED_ATTEMPTS = 100
"""Number of attempts to place a window that must show a box, or none."""


def candidates(
    grid: Grid,
    aoi: Aoi | None,
    chip: ChipSettings,
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
        The `chip` settings. "sliding": the global grid of windows, row-major, over the scene and its padding. "random":
        `per_scene` windows, each of a size and place that follow from the seed and its number alone, inside the scene
        and its padding if they fit.
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
            windows = _sliding(grid, chip)
        allowed = [window for window in windows if _allowed(window, aoi, chip["within_aoi"])]
        return allowed if aim is None else aim.choose(allowed)
    placed: list[Window] = []
    for number in range(chip["per_scene"]):
        window = _random_window(number, grid, aoi, chip, seed, aim)
        if window is not None:
            placed.append(window)
        elif aim is None:
            break
    return placed


def side_limits(chip: ChipSettings) -> list[list[int]]:
    """Return the [min, max] that the settings give for the sides of random windows."""
    limits = (chip["size_limits_px"], chip.get("height_limits_px"), chip.get("width_limits_px"))
    return [pair for pair in limits if pair]


def why_none(grid: Grid, aoi: Aoi | None, chip: ChipSettings) -> str:
    """Return why there are no windows that may become chips, with advice."""
    size = chip["size_px"]
    if aoi is not None and not (aoi.bounds.height and aoi.bounds.width):
        return "no chips, because the area of interest does not overlap the image"
    if aoi is not None and chip["within_aoi"]:
        around = f"{aoi.bounds.width} x {aoi.bounds.height} px around it"
        return (
            f"no chips, because no window lies entirely in the area of interest ({around}; chip.size_px = {size}); "
            "reduce chip.size_px, or set chip.within_aoi = false"
        )
    if chip.get("padding_px") is not None and chip["method"] == "sliding":
        return (
            f"no chips, because windows of {size} px do not fit into the image of {grid.width} x {grid.height} px with "
            "its padding; increase chip.padding_px, or remove it"
        )
    return "no chips, because no suitable window was found"


def survives(window: Window, seed: int, probability: float) -> bool:
    """Decide from the seed and the window alone whether to keep it, with the given `probability`."""
    return uniform(seed, "keep", *window) < probability


def uniform(seed: int, *parts: int | str) -> float:
    """Return a number in [0, 1) that only depends on the arguments, not on versions of libraries."""
    digest = xxhash.xxh3_64_intdigest(repr((seed, *parts)).encode())
    return float((digest >> 11) * 2.0**-53)


def _sliding(grid: Grid, chip: ChipSettings) -> list[Window]:
    """Return the grid of windows, without those that do not overlap the scene."""
    size, strides = chip["size_px"], both_ways(chip["stride_px"])
    paddings = _paddings(chip) or (None, None)
    direction = chip.get("pad_direction", "end")
    rows, cols = (
        _starts(length, size, stride, padding, direction)
        for length, stride, padding in zip((grid.height, grid.width), strides, paddings, strict=True)
    )
    return squares(rows, cols, size)


def _starts(length: int, size: int, stride: int, padding: int | None, direction: str) -> range:
    """Return where windows start along one axis, `stride` apart, in an image of `length` pixels and its padding.

    Without a padding there is as much as the last window needs: windows cover the image. With one, they lie inside
    image and padding, as many as fit.
    """
    if padding is None:
        covering = starts(length, size, stride)
        needed = max(0, covering[-1] + size - length)
        before = {"end": 0, "start": needed, "both": -(-needed // 2)}[direction]
        return range(covering.start - before, covering.stop - before, stride)
    before, after = (0 if direction == "end" else padding), (0 if direction == "start" else padding)
    # Further beyond an image's edges than its own size, a window would not overlap it.
    first = -before + max(0, -(-(before - size + 1) // stride)) * stride
    return range(first, min(length + after - size + 1, length), stride)


def both_ways(value: int | Sequence[int]) -> tuple[int, int]:
    """Return a length as a pair (rows, columns)."""
    down, right = (value, value) if isinstance(value, int) else value
    return down, right


def _paddings(chip: ChipSettings) -> tuple[int, int] | None:
    """Return how many rows and columns windows may reach beyond the scene; None if the project does not set it."""
    padding_px = chip.get("padding_px")
    return None if padding_px is None else both_ways(padding_px)


def _random_window(
    number: int, grid: Grid, aoi: Aoi | None, chip: ChipSettings, seed: int, aim: Aim | None
) -> Window | None:
    """Draw sizes and places until one is allowed; None after many unsuccessful attempts."""
    attempts = chip.get("max_attempts", ATTEMPTS if aim is None else AIMED_ATTEMPTS)
    for attempt in range(1 if aim is None and aoi is None else attempts):
        height, width = _size(number, attempt, chip, seed)
        rows, cols = _places(height, width, grid, aoi, chip)
        aimed = None if aim is None else aim.spans(number, attempt, (height, width))
        if aimed is not None:
            rows, cols = _both(rows, aimed[0]), _both(cols, aimed[1])
        if rows is None or cols is None:
            continue
        row = _integer(*rows, uniform(seed, "row", number, attempt))
        col = _integer(*cols, uniform(seed, "col", number, attempt))
        window = Window(row, col, height, width)
        if _allowed(window, aoi, chip["within_aoi"]) and (aim is None or aim.accepts(number, window)):
            return window
    return None


def _both(span: Span | None, other: Span) -> Span | None:
    """Return the intersection of two spans, or None."""
    if span is None:
        return None
    low, high = max(span[0], other[0]), min(span[1], other[1])
    return (low, high) if low <= high else None


def _size(number: int, attempt: int, chip: ChipSettings, seed: int) -> tuple[int, int]:
    """Return the height and the width of a random window: drawn separately, or one side for a square."""
    size = chip["size_px"]
    height_limits, width_limits = chip.get("height_limits_px"), chip.get("width_limits_px")
    if height_limits or width_limits:
        height = _between(height_limits or (size, size), uniform(seed, "height", number, attempt))
        return height, _between(width_limits or (size, size), uniform(seed, "width", number, attempt))
    side_px = _between(chip["size_limits_px"] or (size, size), uniform(seed, "size", number, attempt))
    return side_px, side_px


def _places(
    height: int, width: int, grid: Grid, aoi: Aoi | None, chip: ChipSettings
) -> tuple[Span | None, Span | None]:
    """Return the rows and the columns that a window may start at so that it lies in the scene and may be allowed."""
    area = grid.window if aoi is None else aoi.bounds
    down, right = _paddings(chip) or (0, 0)
    rows = _span(height, grid.height, area.row, area.row_stop, chip["within_aoi"], down)
    cols = _span(width, grid.width, area.col, area.col_stop, chip["within_aoi"], right)
    return rows, cols


def _span(size: int, length: int, start: int, stop: int, within: bool, padding: int) -> Span | None:
    """Return where a window may start along one axis of a scene whose area reaches from `start` to `stop`.

    It may reach beyond the scene by `padding`; `within` the area, only at an end that the area shares with the scene.
    """
    low, high = -padding, length + padding - size
    if low > high:
        # It has no room, and covers the scene from the first pixel on.
        return 0, 0
    low = max(low, start if within and start > 0 else start - size + 1)
    high = min(high, stop - size if within and stop < length else stop - 1)
    return (low, high) if low <= high else None


def _integer(low: int, high: int, share: float) -> int:
    """Return the whole number from `low` to `high`, both included, at a share in [0, 1) of the way."""
    return low + int(share * (high - low + 1))


def _between(limits: Sequence[int], share: float) -> int:
    low, high = limits
    return _integer(low, high, share)


def _allowed(window: Window, aoi: Aoi | None, within: bool) -> bool:
    if aoi is None:
        return True
    return aoi.allows(window, within)
