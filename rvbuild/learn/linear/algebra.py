"""Linear algebra whose results are functions of the arguments and of nothing else.

BLAS and LAPACK round differently with another number of threads, on another processor, in another release. Here each
operation on elements has one order and one rounding, and matrices are multiplied in parts whose products and sums
float64 holds exactly (Ozaki and others 2012, "Error-free transformations of matrix multiplication"), so BLAS may add in
any order. A matrix of 200 columns is solved in some 3 ms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.linear.moments import Reals

PANEL = 32
"""Columns that are eliminated one by one, before all others at once."""

_DIGITS = 53
"""Binary digits of a float64."""


def product(left: Reals, right: Reals) -> Reals:
    """Return the matrix product of (..., N, M) and (..., M, K), to about 40 binary digits of its largest terms."""
    return _multiplied(_parts(left, right.shape[-2]), _parts(right, right.shape[-2]))


def products(left: Reals, rights: Reals) -> Reals:
    """Return the products (S, N, K) of a matrix (N, M) and several (S, M, K), as `product` returns each, but faster."""
    several, terms, columns = rights.shape
    (high, low), others = _parts(left, terms), _parts(rights, terms)
    # Wide products take hardly longer than narrow ones, and all of them are exact.
    wide = high @ np.concatenate([*others.high, *others.low], axis=1)
    high_high, high_low = np.swapaxes(wide.reshape(-1, 2, several, columns), 0, 1)
    low_high = (low @ np.concatenate(others.high, axis=1)).reshape(-1, several, columns)
    return np.ascontiguousarray(np.swapaxes(high_high + (high_low + low_high), 0, 1))


def whole_product(whole: NDArray[np.int8], right: Reals) -> Reals:
    """Return the product of whole numbers (N, M) and a matrix (M, K), to about 40 binary digits of its largest terms.

    Whole numbers need no parts of their own, so many rows take little time.
    """
    values, (high, low) = whole.astype(np.float64), _parts(right, len(right))
    found: Reals = values @ high + values @ low
    return found


class _Parts(NamedTuple):
    """Two matrices, whose sum are the values but for their last digits, of whole multiples of one unit each."""

    high: Reals
    low: Reals

    def columns(self, start: int, stop: int | None) -> _Parts:
        """Return some columns."""
        return _Parts(self.high[..., start:stop], self.low[..., start:stop])

    def turned(self) -> _Parts:
        """Return their transposes."""
        return _Parts(np.swapaxes(self.high, -1, -2), np.swapaxes(self.low, -1, -2))


def _parts(values: Reals, terms: int) -> _Parts:
    """Return the parts of matrices, of so many bits that a sum of that many products of two parts has at most 53."""
    bits = (_DIGITS - (terms - 1).bit_length()) // 2
    largest = np.abs(values).max(axis=(-2, -1), keepdims=True, initial=2.0**-900)
    unit = np.ldexp(1.0, np.frexp(largest)[1] - bits)
    high = np.rint(values / unit) * unit
    fine = unit * 2.0**-bits
    return _Parts(high, np.rint((values - high) / fine) * fine)


def _multiplied(left: _Parts, right: _Parts) -> Reals:
    total: Reals = left.high @ right.high + (left.high @ right.low + left.low @ right.high)
    return total


def solved(matrix: Reals, right: Reals) -> Reals:
    """Return X with `matrix` X = `right`, by Cholesky's decomposition.

    Parameters
    ----------
    matrix
        (..., F, F), symmetric and positive definite; what is above the diagonal does not count. Several are solved at
        the same time, each as if it were alone.
    right
        (..., F, K).
    """
    count = matrix.shape[-1]
    # Columns beside the matrix are eliminated as its own are.
    upper = np.empty((*matrix.shape[:-1], count + right.shape[-1]))
    upper[..., :count], upper[..., count:] = np.swapaxes(matrix, -1, -2), right
    upper = _factored(upper)
    found = np.swapaxes(upper[..., count:], -1, -2).copy()
    columns = np.ascontiguousarray(np.swapaxes(upper[..., :count], -1, -2))
    for step in reversed(range(count)):
        value = found[..., step, np.newaxis]
        value /= columns[..., np.newaxis, step, step, np.newaxis]
        found[..., :step] -= value * columns[..., np.newaxis, step, :step]
    return np.ascontiguousarray(np.swapaxes(found, -1, -2))


def triangle_of(matrix: Reals) -> Reals:
    """Return Cholesky's decomposition L of a matrix (F, F): L L' = `matrix`. Above its diagonal, it is not zero."""
    return np.ascontiguousarray(_factored(matrix.T.copy()).T)


def forward(triangle: Reals, right: Reals) -> Reals:
    """Return X with L X = `right` (F, K); what is above the diagonal of L, `triangle` (F, F), does not count."""
    found = right.copy()
    for step in range(len(triangle)):
        found[step] /= triangle[step, step]
        found[step + 1 :] -= triangle[step + 1 :, step, np.newaxis] * found[step]
    return found


def _factored(upper: Reals) -> Reals:
    """Eliminate the rows of symmetric matrices (..., F, F) with more columns beside them, in place, and return them.

    On and above the diagonals is the transpose of the decomposition then; what is below does not count.
    """
    count = upper.shape[-2]
    for start in range(0, count, PANEL):
        stop = min(start + PANEL, count)
        panel = _eliminated(upper[..., start:stop, start:])
        right = _parts(panel[..., stop - start :], stop - start)
        left = _parts(panel[..., stop - start : count - start], stop - start)
        for row in range(0, count - stop, PANEL):
            rows = left.columns(row, row + PANEL).turned()
            upper[..., stop + row : stop + row + PANEL, stop + row :] -= _multiplied(rows, right.columns(row, None))
    return upper


def _eliminated(panel: Reals) -> Reals:
    """Turn rows (..., P, N) of matrices, from their diagonals rightwards, into those of the factor, in place."""
    count = panel.shape[-2]
    for step in range(count):
        row = panel[..., step, step:]
        row /= np.sqrt(row[..., :1])
        panel[..., step + 1 :, step + 1 :] -= row[..., 1 : count - step, np.newaxis] * row[..., np.newaxis, 1:]
    return panel
