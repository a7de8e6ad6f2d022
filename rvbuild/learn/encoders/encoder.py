"""What an encoder is, and its features as small integers.

Features are standardised by statistics of the encoder alone: what it answers to one synthetic image, `leaves`. So the
same pixels have the same features in every scene, and neither labels nor other scenes matter. They are rounded to steps
of 1/16 of a standard deviation and kept to 8 bits. Products of two such integers are below 2^14, so sums of products
are exact in floating point whatever the order of additions and the number of threads.
"""

from __future__ import annotations

import functools
import math
from typing import NotRequired, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

Floats = NDArray[np.float32]
Features = NDArray[np.int8]

STEPS = 16
"""Steps to a standard deviation."""

LIMIT = 127
"""The largest feature; beyond some eight standard deviations, features are clipped."""

SAMPLE_PX = 256
"""The side of the synthetic image."""


class EncoderSettings(TypedDict):
    """Which encoder."""

    encoder: str
    """`random`, or a model of torchvision."""
    stride_px: int
    """The side of a cell."""
    bands: NotRequired[list[int]]
    """The three bands that a model of torchvision sees, counted among those of the scene."""


class Encoder(Protocol):
    """A frozen function from an image to features."""

    names: tuple[str, ...]
    """One for each feature."""
    sides_px: tuple[int, ...]
    """The side, in pixels of the image, of the smallest that each feature tells apart."""
    multiple_px: int
    """The sides of images are multiples of this."""
    margin_px: int
    """A multiple of it: how far around a cell the encoder looks, about."""

    def __call__(self, image: Floats) -> Floats:
        """Return the features (F, H / stride, W / stride) float32 of an image (C, H, W) float32 from 0 to 1."""


class Quantized:
    """An encoder whose features are integers.

    Parameters
    ----------
    encoder
        The encoder.
    bands
        How many bands images have.
    """

    def __init__(self, encoder: Encoder, bands: int) -> None:
        self.encoder = encoder
        sample = encoder(leaves(bands, SAMPLE_PX)).reshape(len(encoder.names), -1).astype(np.float64)
        count = sample.shape[1]
        # Exactly rounded, so in no order of additions.
        self.mean = np.array([math.fsum(values) / count for values in sample])
        squares = (sample - self.mean[:, np.newaxis]) ** 2
        spread = np.sqrt([math.fsum(values) / count for values in squares])
        # A feature that never changes tells nothing, but on other images it may.
        self.std = np.where(spread > 0, spread, 1.0)

    def __call__(self, image: Floats) -> Features:
        """Return the features (H / stride, W / stride, F) int8 of an image (C, H, W) float32 from 0 to 1."""
        values = np.moveaxis(self.encoder(image), 0, -1).astype(np.float64)
        values -= self.mean
        values *= STEPS / self.std
        return np.rint(values).clip(-LIMIT, LIMIT).astype(np.int8)


@functools.lru_cache(maxsize=4)
def leaves(bands: int, side_px: int) -> Floats:
    """Return an image (bands, side, side) of discs that cover each other, of all sizes, as "dead leaves" do.

    Its statistics resemble those of photographs (Lee, Mumford and Huang 2001, "Occlusion models for natural images").
    It is the same everywhere and always: it is drawn by whole numbers.
    """
    count = 600
    draws = _uniform(count * (3 + bands)).reshape(count, 3 + bands)
    image = np.full((bands, side_px, side_px), 0.5, dtype=np.float32)
    places = np.arange(side_px)
    for row, col, size, *values in draws:
        radius = 2 / (1 - size * (1 - 2 / (side_px / 3)))  # small ones are many: their number falls with the square
        (top, bottom), (left, right) = (
            (max(0, int(center * side_px - radius)), int(center * side_px + radius) + 2) for center in (row, col)
        )
        rows, cols = places[top:bottom, np.newaxis] - row * side_px, places[left:right] - col * side_px
        disc = rows**2 + cols**2 < radius**2
        for band, value in enumerate(values):
            # Bands go together, as those of photographs do.
            image[band, top:bottom, left:right][disc] = np.float32(0.75 * values[0] + 0.25 * value)
    grain = _uniform(bands * side_px * side_px, 1).reshape(image.shape)
    return np.clip(image + (grain.astype(np.float32) - np.float32(0.5)) * np.float32(0.05), 0, 1)


def _uniform(count: int, stream: int = 0) -> NDArray[np.float64]:
    """Return numbers in [0, 1), the same with every version of every library: splitmix64."""
    with np.errstate(over="ignore"):
        state = (np.arange(count, dtype=np.uint64) + np.uint64(stream << 40)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def signs(shape: tuple[int, ...], stream: int) -> NDArray[np.float32]:
    """Return numbers -1, 0 and 1 of a shape: half of them are 0; the same everywhere."""
    draws = _uniform(int(np.prod(shape)), stream)
    return ((draws >= 0.75).astype(np.float32) - (draws < 0.25).astype(np.float32)).reshape(shape)
