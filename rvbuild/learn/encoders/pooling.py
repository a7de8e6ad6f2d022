"""Means of neighbouring pixels, and interpolation between cells: operations with one order and one rounding."""

from __future__ import annotations

import numpy as np

from rvbuild.learn.encoders.encoder import Floats


def pooled(maps: Floats, factor: int) -> Floats:
    """Return the means of `factor` x `factor` pixels of maps (N, H, W); sides are multiples of the factor."""
    if factor == 1:
        return maps
    total = sum(maps[:, row::factor, col::factor] for row in range(factor) for col in range(factor))
    return np.asarray(total, dtype=np.float32) * np.float32(1 / factor**2)


def enlarged(maps: Floats, factor: int) -> Floats:
    """Return maps (N, H, W) interpolated linearly to `factor` times their sides; edges are repeated."""
    for axis in (1, 2) if factor > 1 else ():
        maps = _enlarged(maps, factor, axis)
    return maps


def _enlarged(maps: Floats, factor: int, axis: int) -> Floats:
    before = np.concatenate([maps.take([0], axis), maps.take(range(maps.shape[axis] - 1), axis)], axis)
    after = np.concatenate([maps.take(range(1, maps.shape[axis]), axis), maps.take([-1], axis)], axis)
    shape = [*maps.shape]
    shape[axis] *= factor
    result = np.empty(shape, dtype=np.float32)
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5  # of the pixel's centre, from that of its cell
        other, share = (before, -place) if place < 0 else (after, place)
        part = [slice(None)] * 3
        part[axis] = slice(phase, None, factor)
        result[tuple(part)] = maps * np.float32(1 - share) + other * np.float32(share)
    return result


def boxed(plane: Floats, side: int) -> Floats:
    """Return a plane (H, W) of which each value is the mean of `side` x `side` around it; edges are repeated."""
    for axis in (0, 1):
        margins = [(0, 0), (0, 0)]
        margins[axis] = (side // 2, side // 2)
        around, length = np.pad(plane, margins, mode="edge"), plane.shape[axis]
        shifted = [
            around[step : step + length] if axis == 0 else around[:, step : step + length] for step in range(side)
        ]
        total = shifted[0] + shifted[1]
        for part in shifted[2:]:
            total += part
        plane = total
    mean: Floats = plane * np.float32(1 / side**2)
    return mean


def reflected(image: Floats, before: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """Return an image (C, H, W) with mirrored pixels around it.

    Parameters
    ----------
    image
        The image.
    before
        How many (rows, columns) are added above and to the left.
    shape
        (rows, columns) of the result.
    """
    rows, cols = (
        _mirror(np.arange(-start, length - start), size)
        for start, length, size in zip(before, shape, image.shape[1:], strict=True)
    )
    found: Floats = image[:, rows[:, np.newaxis], cols]
    return found


def _mirror(places: np.ndarray, size: int) -> np.ndarray:
    """Return places on an axis of `size`, mirrored at its ends as often as needed; the ends are repeated."""
    places = places % (2 * size)
    found: np.ndarray = np.minimum(places, 2 * size - 1 - places)
    return found
