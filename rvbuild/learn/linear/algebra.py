"""Linear algebra by operations on elements alone, so that a result is a function of its arguments and of nothing else.

BLAS and LAPACK round differently with another number of threads, on another processor, in another release. Each
operation here has one order and one rounding. A matrix of 171 columns is solved in some 3 ms.
"""

from __future__ import annotations

import numpy as np

from rvbuild.learn.linear.moments import Reals


def product(left: Reals, right: Reals) -> Reals:
    """Return the matrix product of (N, M) and (M, K), for small K."""
    columns = [np.add.accumulate(left * column, axis=1)[:, -1] for column in right.T]
    return np.stack(columns, axis=1)


def solved(matrix: Reals, right: Reals) -> Reals:
    """Return X with `matrix` X = `right`, by Cholesky's decomposition.

    Parameters
    ----------
    matrix
        (F, F), symmetric and positive definite.
    right
        (F, K).
    """
    triangle, count = lower(matrix), len(matrix)
    found = forward(triangle, right)
    for step in reversed(range(count)):
        found[step] /= triangle[step, step]
        found[:step] -= triangle[step, :step, np.newaxis] * found[step]
    return found


def lower(matrix: Reals) -> Reals:
    """Return Cholesky's decomposition L of a matrix (F, F): L L' = `matrix`. Above its diagonal, it is not zero."""
    triangle, count = matrix.copy(), len(matrix)
    for step in range(count):
        triangle[step:, step] /= np.sqrt(triangle[step, step])
        column = triangle[step + 1 :, step]
        triangle[step + 1 :, step + 1 :] -= column[:, np.newaxis] * column
    return triangle


def forward(triangle: Reals, right: Reals) -> Reals:
    """Return X with L X = `right` (F, K); what is above the diagonal of L, `triangle` (F, F), does not count."""
    found = right.copy()
    for step in range(len(triangle)):
        found[step] /= triangle[step, step]
        found[step + 1 :] -= triangle[step + 1 :, step, np.newaxis] * found[step]
    return found
