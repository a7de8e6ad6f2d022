"""The network of a bundle as ONNX, checked against torch, and a self-test: an image with the classes that it must give.

torch and onnx are imported here: only a bundle with `bundle.onnx` needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from rvbuild import tasks
from rvbuild.geo.raster.stats import ImageFigures
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.model_files import ModelInfo
from rvbuild.settings.train import TrainedSettings
from rvbuild.stages.bundle.qgis import metadata_of
from rvbuild.stages.bundle.settings import BundleStageSettings
from rvbuild.stages.engines.exporting import compared, export_network, sample, told_of
from rvbuild.stages.network import Network
from rvbuild.tasks.portable import LARGEST_DIFFERENCE, SCORES, TOLERANCE
from rvbuild.tasks.portable import Portable as PortableTask


class Portable(NamedTuple):
    """What a network becomes outside of torch."""

    info: ModelInfo
    parameters: int
    """The number of weights."""
    onnx: Path
    """The exported network."""
    onnx_weights: Path | None
    """The file of its weights, if they are too large for the network's own."""
    selftest: bytes
    difference: float
    """The largest difference of a score between torch and onnxruntime is below this power of ten."""


def portable(
    weights: Path,
    description: Path,
    stats: ImageFigures,
    settings: BundleStageSettings,
    trained: TrainedSettings | None,
    folder: Path,
) -> Portable:
    """Export a trained model, and compare what both engines predict.

    Parameters
    ----------
    weights, description, trained
        As for `rvbuild.learn.checkpoint.load_model`.
    stats
        The statistics of the training imagery.
    settings
        Of the stage.
    folder
        Receives the files of the exported network.

    Raises
    ------
    ModelError
        The model cannot be exported, or predicts something else in onnxruntime.
    """
    model, info = load_model(weights, description, "cpu", trained=trained)
    images = sample(info, stats)
    task, network = tasks.get(info.task), Network(model, info, "cpu")
    with told_of("bundle.onnx", "Remove the key, or choose another train.model"):
        export = export_network(model, info, folder)
        with network.computing():
            predictions = network(images, None)
            expected = task.PORTABLE.expected(predictions)
            difference = compared(network, export, export.write(export.about), images, expected, "onnxruntime")
            selftest = _selftest(network, images, predictions, difference)
    onnx = export.write({**export.about, "largest_difference": difference}, metadata_of(info, settings))
    parameters = sum(weight.numel() for weight in model.parameters())
    return Portable(info, parameters, onnx, export.weights, selftest, difference)


def _selftest(network: Network, images: np.ndarray, predictions: Any, difference: float) -> bytes:
    """Return the self-test as safetensors: the first images, and what a prediction must give for them."""
    task: PortableTask = tasks.get(network.info.task).PORTABLE
    images, predictions = images[: task.tested], predictions[: task.tested]
    expected = task.expected(predictions)
    tensors = {"images": images, **{f"expected.{name}": value for name, value in expected.items()}}
    if not task.misses(predictions, expected)[1]:
        tensors[SCORES] = np.ascontiguousarray(task.scores(network.output(images, None), len(network.info.outputs)))
        if difference > LARGEST_DIFFERENCE:
            tensors[TOLERANCE] = np.array([difference])
    content: bytes = safetensors.numpy.save(tensors)
    return content
