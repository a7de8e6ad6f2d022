"""Linear algebra whose results are functions of the arguments and of nothing else.

BLAS and LAPACK round differently with another number of threads, on another processor, in another release. Here each
operation on elements has one order and one rounding, and matrices are multiplied in parts whose products and sums
float64 holds exactly (Ozaki and others 2012, "Error-free transformations of matrix multiplication"), so BLAS may add in
any order. A matrix of 200 columns is solved in some 3 ms.
"""

from __future__ import annotations

import math

import numpy as np

from rvbuild.learn.linear.moments import Reals

PANEL = 32
"""Columns that are eliminated one by one, before all others at once."""

_DIGITS = 53
"""Binary digits of a float64."""


def product(left: Reals, right: Reals) -> Reals:
    """Return the matrix product of (N, M) and (M, K), to about 40 binary digits of its largest terms."""
    bits = (_DIGITS - (right.shape[0] - 1).bit_length()) // 2
    (high, low), (other_high, other_low) = _parts(left, bits), _parts(right, bits)
    total: Reals = high @ other_high + (high @ other_low + low @ other_high)
    return total


def _parts(values: Reals, bits: int) -> tuple[Reals, Reals]:
    """Return two matrices, whose sum are the values but for their last digits, of whole multiples of one unit each.

    The multiples have so many bits that a sum of products of two parts has at most 53.
    """
    unit = 2.0 ** (math.frexp(float(np.abs(values).max(initial=2.0**-900)))[1] - bits)
    high = np.rint(values / unit) * unit
    fine = unit * 2.0**-bits
    return high, np.rint((values - high) / fine) * fine


def solved(matrix: Reals, right: Reals) -> Reals:
    """Return X with `matrix` X = `right`, by Cholesky's decomposition.

    Parameters
    ----------
    matrix
        (F, F), symmetric and positive definite.
    right
        (F, K).
    """
    count = len(matrix)
    # Rows below the matrix are eliminated as its own are.
    lower = _factored(np.concatenate([matrix, right.T]))
    found = lower[count:].T.copy()
    for step in reversed(range(count)):
        found[step] /= lower[step, step]
        found[:step] -= lower[step, :step, np.newaxis] * found[step]
    return found


def triangle_of(matrix: Reals) -> Reals:
    """Return Cholesky's decomposition L of a matrix (F, F): L L' = `matrix`. Above its diagonal, it is not zero."""
    return _factored(matrix.copy())


def forward(triangle: Reals, right: Reals) -> Reals:
    """Return X with L X = `right` (F, K); what is above the diagonal of L, `triangle` (F, F), does not count."""
    found = right.copy()
    for step in range(len(triangle)):
        found[step] /= triangle[step, step]
        found[step + 1 :] -= triangle[step + 1 :, step, np.newaxis] * found[step]
    return found


def _factored(lower: Reals) -> Reals:
    """Eliminate the columns of a matrix (F, F) with more rows below it, in place, and return it."""
    count = lower.shape[1]
    for start in range(0, count, PANEL):
        stop = min(start + PANEL, count)
        panel = _eliminated(lower[start:, start:stop].T.copy())
        lower[start:, start:stop] = panel.T
        if stop < len(lower):
            below = panel[:, stop - start :]
            lower[stop:, stop:] -= product(below.T, below[:, : count - stop])
    return lower


def _eliminated(panel: Reals) -> Reals:
    """Return the columns of the factor, as rows (P, N), of the columns of a matrix from its diagonal downwards."""
    for step, row in enumerate(panel):
        row[step:] /= np.sqrt(row[step])
        panel[step + 1 :, step + 1 :] -= row[step + 1 : len(panel), np.newaxis] * row[step + 1 :]
    return panel
