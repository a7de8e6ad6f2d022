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
    lower, count = matrix.copy(), len(matrix)
    for step in range(count):
        lower[step:, step] /= np.sqrt(lower[step, step])
        column = lower[step + 1 :, step]
        lower[step + 1 :, step + 1 :] -= column[:, np.newaxis] * column
    found = right.copy()
    for step in range(count):
        found[step] /= lower[step, step]
        found[step + 1 :] -= lower[step + 1 :, step, np.newaxis] * found[step]
    for step in reversed(range(count)):
        found[step] /= lower[step, step]
        found[:step] -= lower[step, :step, np.newaxis] * found[step]
    return found
