"""Statistics of bands in one pass: moments and histograms that can be merged exactly.

Integers of at most 16 bits are counted value by value: their sums are whole numbers and their moments exact, in any
order. Wider integers and real numbers keep count, mean and sum of squared deviations, merged by the formula of Chan,
Golub and LeVeque (1979, "Updating formulae and a pairwise algorithm for computing sample variances").
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, NotRequired, Self, TypedDict, final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_WIDTH_16_BIT = 16
"""Of the bins of integers of 16 bits: imagery of 12 bits fills 256 of them."""

_FIRST_OCTAVE, _OCTAVES, _PER_OCTAVE = -32, 96, 32
_ZERO_BIN = _OCTAVES * _PER_OCTAVE
_MANTISSA_SHIFT = 47
"""A float64 shifted right by this keeps its exponent and the five bits that split an octave into 32."""


def _log_edges() -> list[float]:
    octaves = range(_FIRST_OCTAVE, _FIRST_OCTAVE + _OCTAVES)
    sizes = [2.0**octave * (1 + part / _PER_OCTAVE) for octave in octaves for part in range(_PER_OCTAVE)]
    sizes.append(2.0 ** (_FIRST_OCTAVE + _OCTAVES))
    return [-size for size in reversed(sizes)] + sizes


_LOG_EDGES = _log_edges()


@final
class IntegerHistogram(TypedDict):
    """A histogram of integers, as JSON data."""

    start: int
    """The lower edge of the first bin."""
    width: int
    """Of a bin."""
    counts: list[int]


@final
class RealHistogram(TypedDict):
    """A histogram of real values or wide integers, as JSON data."""

    edges: list[float]
    """Of the bins that hold something, and of those between them: one more than there are counts."""
    counts: list[int]


class BandFigures(TypedDict):
    """The statistics of a band, as JSON data."""

    count: int
    mean: float
    m2: float
    std: float
    min: float | None
    max: float | None
    histogram: IntegerHistogram | RealHistogram
    sum: NotRequired[int]
    """Exact, as the next one, so that statistics can be merged exactly; of integers of at most 16 bits."""
    sum_squares: NotRequired[int]


class ImageFigures(TypedDict):
    """The content of `stats.json`."""

    bands: list[BandFigures]
    dtype: str


@dataclass(frozen=True)
class Histogram:
    """Histograms with bins that only depend on the dtype, so that two of one dtype can be merged exactly.

    For integers of 8 bits, a bin for each value; of 16 bits, bins of 16 values. For all others: by size, 32 bins for
    each octave from 2^-32 to 2^64, on both sides of one bin around 0; the outermost hold what lies beyond.
    """

    start: int | None
    """Lower edge of the first bin of equal width; None if the bins are by size."""
    width: int
    """Of a bin of equal width."""
    counts: Counts
    """(bins,) int64: of equal width from the first that holds something to the last; by size all of them."""

    @classmethod
    def empty(cls, dtype: np.dtype[Any]) -> Self:
        """Return a histogram without values."""
        if _counted(dtype):
            return cls(0, 1 if dtype.itemsize == 1 else _WIDTH_16_BIT, np.zeros(0, dtype=np.int64))
        return cls(None, 0, np.zeros(2 * _ZERO_BIN + 1, dtype=np.int64))

    def of_values(self, lowest: int, counts: Counts) -> Self:
        """Return the histogram of integers, with `counts[i]` values `lowest + i`, over the whole range of a dtype."""
        bins = counts.reshape(-1, self.width).sum(axis=1)
        used = np.flatnonzero(bins)
        if not len(used):
            return self
        first, stop = int(used[0]), int(used[-1]) + 1
        return replace(self, start=lowest + first * self.width, counts=bins[first:stop])

    def merge(self, other: Self) -> Self:
        """Return the histogram of both."""
        if self.start is None or other.start is None:
            return replace(self, counts=self.counts + other.counts)
        parts = [part for part in (self, other) if len(part.counts)]
        if not parts:
            return self
        starts = [part.start or 0 for part in parts]
        start = min(starts)
        stop = max(at + len(part.counts) * self.width for at, part in zip(starts, parts, strict=True))
        counts = np.zeros((stop - start) // self.width, dtype=np.int64)
        for at, part in zip(starts, parts, strict=True):
            first = (at - start) // self.width
            counts[first : first + len(part.counts)] += part.counts
        return replace(self, start=start, counts=counts)

    def quantile(self, share: float, lowest: float, highest: float) -> float:
        """Return the value below which `share` (0 to 1) of all values lie, interpolated inside its bin.

        Parameters
        ----------
        share
            0 returns `lowest`, 1 returns `highest`.
        lowest, highest
            The extremes of all values, which are known exactly.
        """
        ends = np.cumsum(self.counts)
        wanted = share * int(ends[-1])
        number = min(int(np.searchsorted(ends, wanted)), len(ends) - 1)
        count = int(self.counts[number])
        inside = (wanted - (int(ends[number]) - count)) / count if count else 0.0
        if self.start is None:
            # The first and the last bin have no outer edge.
            low, high = ([-math.inf, *_LOG_EDGES[1:-1], math.inf][number + step] for step in (0, 1))
        else:
            low = self.start + number * self.width
            high = low + self.width - 1
        low, high = max(low, lowest), min(high, highest)
        return float(low + inside * (high - low))

    def to_json(self) -> IntegerHistogram | RealHistogram:
        """Return the counts as JSON data, those of real values from the first non-empty bin on."""
        if self.start is not None:
            return {"start": self.start, "width": self.width, "counts": self.counts.tolist()}
        used = np.flatnonzero(self.counts)
        if len(used) == 0:
            return {"edges": [], "counts": []}
        first, stop = int(used[0]), int(used[-1]) + 1
        return {"edges": _LOG_EDGES[first : stop + 1], "counts": self.counts[first:stop].tolist()}

    @classmethod
    def from_json(cls, value: IntegerHistogram | RealHistogram) -> Self:
        """Return the histogram that `to_json` wrote."""
        given = np.array(value["counts"], dtype=np.int64)
        if "edges" not in value:
            return cls(int(value["start"]), int(value["width"]), given)
        counts = np.zeros(2 * _ZERO_BIN + 1, dtype=np.int64)
        if len(given):
            first = _LOG_EDGES.index(float(value["edges"][0]))
            counts[first : first + len(given)] = given
        return cls(None, 0, counts)


class Moments(NamedTuple):
    """The number of some values, at least one, their mean, and the sum of the squared deviations from it."""

    values: int
    mean: float
    m2: float

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both; another order of merging gives other last digits."""
        values = self.values + other.values
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.values / values)
        return Moments(values, mean, self.m2 + other.m2 + delta * delta * (self.values * other.values / values))


@dataclass(frozen=True)
class BandStats:
    """Statistics of the valid pixels of one band."""

    count: int
    """Valid pixels. Without any, the moments are 0 and there is no minimum or maximum."""
    mean: float
    m2: float
    """Sum of the squared deviations from the mean."""
    min: float | None
    max: float | None
    histogram: Histogram
    sums: tuple[int, int] | None = None
    """Exact sums of the values and of their squares, of integers of at most 16 bits."""

    @property
    def std(self) -> float:
        """Standard deviation of the population: sqrt(m2 / count)."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    def merge(self, other: Self) -> Self:
        """Return the statistics of the pixels of both; of the same dtype."""
        if not self.count or not other.count:
            return self if self.count else other
        count, histogram = self.count + other.count, self.histogram.merge(other.histogram)
        assert self.min is not None and other.min is not None and self.max is not None and other.max is not None
        lowest, highest = min(self.min, other.min), max(self.max, other.max)
        if self.sums is not None and other.sums is not None:
            sums = (self.sums[0] + other.sums[0], self.sums[1] + other.sums[1])
            mean, m2 = _moments(count, *sums)
            return type(self)(count, mean, m2, lowest, highest, histogram, sums)
        ours, theirs = Moments(self.count, self.mean, self.m2), Moments(other.count, other.mean, other.m2)
        _, mean, m2 = ours.merge(theirs)
        return type(self)(count, mean, m2, lowest, highest, histogram)

    def with_moments(self, windows: Sequence[Moments]) -> Self:
        """Return the same statistics with the moments of windows, merged one by one as `BandCounter` does."""
        if not windows:
            return self
        _, mean, m2 = functools.reduce(Moments.merge, windows)
        return replace(self, mean=mean, m2=m2)

    def to_json(self) -> BandFigures:
        """Return the statistics as JSON data."""
        figures: BandFigures = {
            "count": self.count,
            "mean": self.mean,
            "m2": self.m2,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "histogram": self.histogram.to_json(),
        }
        if self.sums is not None:
            figures["sum"], figures["sum_squares"] = self.sums
        return figures

    @classmethod
    def from_json(cls, value: BandFigures) -> Self:
        """Return the statistics that `to_json` wrote."""
        sums = (int(value["sum"]), int(value["sum_squares"])) if "sum" in value else None
        return cls(
            int(value["count"]),
            float(value["mean"]),
            float(value["m2"]),
            value["min"],
            value["max"],
            Histogram.from_json(value["histogram"]),
            sums,
        )


class BandCounter:
    """Gathers the statistics of one band, window by window."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._counts: Counts | None = None
        if _counted(dtype):
            limits = np.iinfo(dtype)
            self._lowest = int(limits.min)
            self._counts = np.zeros(int(limits.max) - self._lowest + 1, dtype=np.int64)
        empty = Histogram.empty(dtype)
        self._stats = BandStats(0, 0.0, 0.0, None, None, empty, None if self._counts is None else (0, 0))
        self.moments: list[Moments] = []
        """Those of each window in turn; none of integers of at most 16 bits, whose sums are exact."""

    def add(self, values: NDArray[Any]) -> None:
        """Take the valid pixels of a window: (N,) in the band's dtype, finite."""
        if not values.size:
            return
        if self._counts is not None:
            offsets = values if self._lowest == 0 else values.astype(np.int32) - self._lowest
            self._counts += np.bincount(offsets, minlength=len(self._counts))
            return
        reals = values.astype(np.float64)
        # Not a dot product: BLAS sums in an order that depends on its threads. Huge values overflow to infinity.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(reals.mean())
            m2 = float(np.square(reals - mean).sum())
        histogram = replace(self._stats.histogram, counts=_count_sizes(reals))
        lowest, highest = values.min().item(), values.max().item()
        self._stats = self._stats.merge(BandStats(len(reals), mean, m2, lowest, highest, histogram))
        self.moments.append(Moments(len(reals), mean, m2))

    def result(self) -> BandStats:
        """Return the statistics of all windows so far."""
        if self._counts is None:
            return self._stats
        used = np.flatnonzero(self._counts)
        if not len(used):
            return self._stats
        values, counts = (used + self._lowest).tolist(), self._counts[used].tolist()
        count = sum(counts)
        total = sum(value * times for value, times in zip(values, counts, strict=True))
        squares = sum(value * value * times for value, times in zip(values, counts, strict=True))
        bins = self._stats.histogram.of_values(self._lowest, self._counts)
        return BandStats(count, *_moments(count, total, squares), values[0], values[-1], bins, (total, squares))


def _counted(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _moments(count: int, total: int, squares: int) -> tuple[float, float]:
    """Return (mean, m2), each the float nearest to the exact number."""
    return float(Fraction(total, count)), float(squares - Fraction(total * total, count))


def _count_sizes(values: NDArray[np.float64]) -> Counts:
    """Count the values in each bin by size: (bins,) int64."""
    sizes = np.abs(values).view(np.int64) >> _MANTISSA_SHIFT
    lowest = (1023 + _FIRST_OCTAVE) * _PER_OCTAVE
    distance = (sizes - (lowest - 1)).clip(0, _ZERO_BIN)
    bins = np.where(values < 0, _ZERO_BIN - distance, _ZERO_BIN + distance)
    return np.bincount(bins, minlength=2 * _ZERO_BIN + 1)
