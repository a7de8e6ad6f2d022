"""A solved model as whole numbers, and how it is applied: by products of matrices that float32 holds exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.encoders.encoder import LIMIT, Features, Floats
from rvbuild.learn.linear.solve import Solution

LOW_BITS = 8
"""A weight is a high part times 2^8 plus a low part."""

EXACT = 1 << 24
"""float32 holds whole numbers up to this."""

MOST_FEATURES = 1000
"""So many low parts times features add up exactly, too."""

Integers = NDArray[np.int64]


class Head(NamedTuple):
    """A linear model of classes: log-probabilities, but for a constant, of features of 8 bits."""

    class_ids: tuple[int, ...]
    """Of its outputs, in increasing order; a class without a label is not among them."""
    weights: Integers
    """(F, K): multiples of `unit`."""
    biases: Integers
    """(K,): multiples of `unit`."""
    offsets: Integers
    """(K,): added where a class is decided, multiples of `unit`."""
    unit: float
    """What one step of a score means in log-probability; a power of 2."""

    def scores(self, features: Features) -> Floats:
        """Return the scores (N, K) float32 of the features (N, F) of cells, in log-probability."""
        low = (self.weights + (1 << LOW_BITS - 1)) % (1 << LOW_BITS) - (1 << LOW_BITS - 1)
        both = np.concatenate([(self.weights - low) >> LOW_BITS, low], axis=1).astype(np.float32)
        high, rest = np.split(features.astype(np.float32) @ both, 2, axis=1)
        exact = high.astype(np.float64) * (1 << LOW_BITS) + rest + self.biases
        scores: Floats = (exact * self.unit).astype(np.float32)
        return scores

    def write(self, path: Path, **more: object) -> None:
        """Write it as JSON, with more about it."""
        content = {
            "class_ids": list(self.class_ids),
            "weights": self.weights.tolist(),
            "biases": self.biases.tolist(),
            "offsets": self.offsets.tolist(),
            "unit": self.unit,
            **more,
        }
        path.write_text(json.dumps(content, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def rounded(solution: Solution, class_ids: tuple[int, ...]) -> Head:
    """Return a solution in whole numbers.

    Parameters
    ----------
    solution
        Its classes.
    class_ids
        Their ids; those without pixels are left out.
    """
    some = np.isfinite(solution.biases)
    weights, biases, offsets = solution.weights[:, some], solution.biases[some], solution.offsets[some]
    # The part of the weights that all classes share decides nothing.
    weights = weights - weights.mean(axis=1, keepdims=True)
    # The high parts of the weights, times features, must add up exactly.
    largest = max(float(np.abs(weights).sum(axis=0).max(initial=0)) * LIMIT, 2.0**-20)
    exponent = np.ceil(np.log2(largest / (EXACT >> 1) / (1 << LOW_BITS)))
    unit = float(2.0**exponent)
    unit = max(unit, 2.0**-30)

    def whole(values: NDArray[np.float64]) -> Integers:
        return np.rint(values / unit).astype(np.int64)

    ids = tuple(id_ for id_, one in zip(class_ids, some, strict=True) if one)
    return Head(ids, whole(weights), whole(biases), whole(offsets), unit)


def read_head(path: Path) -> Head:
    """Read a head that `Head.write` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    arrays = (np.array(content[key], dtype=np.int64) for key in ("weights", "biases", "offsets"))
    weights, biases, offsets = arrays
    return Head(tuple(content["class_ids"]), weights, biases, offsets, float(content["unit"]))
