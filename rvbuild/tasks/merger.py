"""The interface that joins the predictions of windows into the result of a scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from rvbuild.geo.windows import Window


class Merger(Protocol):
    """Merges the predictions of windows into the raw result of a scene, block by block, in bounded memory.

    The raw result is what costs a run of the network, and all else that is told of a scene can be derived from it: so
    it holds every box, not those above a threshold.
    """

    def add(self, window: Window, prediction: Any, valid: np.ndarray) -> None:
        """Take the prediction of one window.

        Parameters
        ----------
        window
            May overhang the scene. Windows come in row-major order.
        prediction
            One element of what `Task.forward` returned; for segmentation `(K, H, W)` float32 probabilities. Or what
            `Task.reduction` keeps of it.
        valid
            `(H, W)` bool, at the size of the window: pixels with data, inside the scene and the area of interest.
        """

    def finish(self) -> None:
        """Write the rest and close all files; those of `Task.RAW` exist then."""
