"""An exported network in an engine: what engines have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class Interface(NamedTuple):
    """The input and the outputs of a graph."""

    inputs: list[tuple[str, str, list[int]]]
    """Name, type as numpy names it, and shape of one image, of each input."""
    outputs: list[str]


class Graph(Protocol):
    """A graph that is open in an engine."""

    at_once: int
    """The number of images that `run` should get; 0: a whole batch."""

    on_cpu: bool
    """Whether nothing but cores computes."""

    interface: Interface

    metadata: Mapping[str, str]
    """What the file says of itself."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the output for images `(n, C, H, W)`, `(n, …)`; may be called from several threads.

        The result for an image depends on no other image, and not on how many threads call. It may lie in memory that
        the next call of the same thread writes to.

        Raises
        ------
        Exception
            Whatever the engine raises for what it cannot compute.
        """
