"""Networks that leave torch: what an exported network gives, and what a self-test expects of it; no torch here.

An exported network has one output, `(N, …)` float32. It is read, compared and expected by what the task makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from rvbuild.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from rvbuild.settings.predict import PredictSettings

UNSURE = 255
"""In the classes of a self-test: two classes are nearly as probable, and either may win on another machine."""

LARGEST_DIFFERENCE = 1e-3
"""By how much a score may differ between torch and another engine; more if torch itself is not that exact."""

SCORES = "scores"
"""In a self-test of a model that is sure of nothing: scores that it must give, whatever its thresholds."""

TOLERANCE = "tolerance"
"""In such a self-test: by how much the scores may differ, if it is more than `LARGEST_DIFFERENCE`."""

_MARGIN = 0.01

_SCORES = 16
"""Pixels of a side whose probabilities a self-test has, about."""


class Exported(NamedTuple):
    """A network as an export takes it."""

    network: nn.Module
    """Maps normalised images `(N, C, H, W)` float32 to one tensor."""
    reading: Mapping[str, Any]
    """How the output is read, as JSON data."""
    translations: Mapping[Any, Callable[..., Any]]
    """Functions of onnxscript for operators that torch does not translate."""


class Portable(Protocol):
    """What a task makes of the output of an exported network."""

    output: str
    """The name of the output."""

    tested: int
    """The number of images in a self-test."""

    axes: tuple[str, ...]
    """The axes of the output: `batch`, `class`, `height`, `width`, or others."""

    stac_task: str
    """The task as STAC's Machine Learning Model extension calls it."""

    def read(self, output: np.ndarray, outputs: int, shape: tuple[int, int], reading: Mapping[str, Any]) -> Any:
        """Return the predictions of a batch, as `Task.forward` returns them.

        Parameters
        ----------
        output
            `(N, …)` float32.
        outputs
            K, the number of classes that are predicted.
        shape
            Height and width of the images.
        reading
            See `Exported`.

        Raises
        ------
        DataError
            The output has another shape, or cannot be read like this.
        """

    def difference(self, one: np.ndarray, other: np.ndarray, outputs: int) -> float:
        """Return the largest difference between the scores of two outputs for the same images."""

    def expected(self, predictions: Any) -> dict[str, np.ndarray]:
        """Return what a self-test expects, from the predictions of a batch: tensors by name."""

    def misses(self, predictions: Any, expected: Mapping[str, np.ndarray]) -> tuple[int, int]:
        """Return how much of what is expected the predictions of a batch have otherwise, and of how much."""

    def scores(self, output: np.ndarray, outputs: int) -> np.ndarray:
        """Return scores of an output, for a self-test of a model that is sure of nothing: some hundreds an image."""

    def qgis(self, predict: PredictSettings) -> Mapping[str, Any]:
        """Return the metadata that only this task has for QGIS Deepness and GeoDeep; empty: they do not know it."""


class Probabilities:
    """The output is the probability of each class, `(N, K)` or `(N, K, H, W)`."""

    output = "probabilities"

    def __init__(self, *, per_pixel: bool) -> None:
        self._per_pixel = per_pixel
        self.tested = 1 if per_pixel else 8
        self.axes = ("batch", "class", "height", "width") if per_pixel else ("batch", "class")
        self.stac_task = "semantic-segmentation" if per_pixel else "scene-classification"

    def read(self, output: np.ndarray, outputs: int, shape: tuple[int, int], reading: Mapping[str, Any]) -> np.ndarray:
        """Return the probabilities."""
        expected = (outputs, *shape) if self._per_pixel else (outputs,)
        if output.shape[1:] != expected:
            raise DataError(f"expected probabilities (images, {', '.join(map(str, expected))}), found {output.shape}")
        return output

    def difference(self, one: np.ndarray, other: np.ndarray, outputs: int) -> float:
        """Return the largest difference of a probability."""
        return float(np.abs(one.astype(np.float64) - other).max())

    def expected(self, predictions: Sequence[np.ndarray] | np.ndarray) -> dict[str, np.ndarray]:
        """Return `classes`: the position of the most probable class, uint8; `UNSURE` where another is as probable."""
        predictions = np.asarray(predictions)
        classes = predictions.argmax(axis=1).astype(np.uint8)
        if predictions.shape[1] > 1:
            second, first = np.moveaxis(np.partition(predictions, -2, axis=1), 1, 0)[-2:]
            classes[first - second < _MARGIN] = UNSURE
        return {"classes": classes}

    def misses(
        self, predictions: Sequence[np.ndarray] | np.ndarray, expected: Mapping[str, np.ndarray]
    ) -> tuple[int, int]:
        """Return how many pixels or images have another class, and how many are sure to have one."""
        classes = expected["classes"]
        sure = classes != UNSURE
        return int(np.count_nonzero(np.asarray(predictions).argmax(axis=1)[sure] != classes[sure])), int(
            np.count_nonzero(sure)
        )

    def scores(self, output: np.ndarray, outputs: int) -> np.ndarray:
        """Return the probabilities, of some pixels each way."""
        step = max(1, output.shape[-1] // _SCORES)
        return output[..., ::step, ::step] if self._per_pixel else output

    def qgis(self, predict: PredictSettings) -> Mapping[str, Any]:
        """Return the type of a segmentation, of which no pixel and no small part is left out."""
        segmentor = {"model_type": "Segmentor", "seg_thresh": 0.0, "seg_small_segment": 0}
        return segmentor if self._per_pixel else {}
