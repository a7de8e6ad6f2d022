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
from rvbuild.tasks.portable import Portable as PortableTask


class Portable(NamedTuple):
    """What a network becomes outside of torch."""

    info: ModelInfo
    parameters: int
    """The number of weights."""
    onnx: bytes
    selftest: bytes
    difference: float
    """The largest difference of a score between torch and onnxruntime is below this power of ten."""


def portable(
    weights: Path,
    description: Path,
    stats: ImageFigures,
    settings: BundleStageSettings,
    trained: TrainedSettings | None,
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

    Raises
    ------
    ModelError
        The model cannot be exported, or predicts something else in onnxruntime.
    """
    model, info = load_model(weights, description, "cpu", trained=trained)
    images = sample(info, stats)
    task, network = tasks.get(info.task), Network(model, info, "cpu")
    with told_of("bundle.onnx", "Remove the key, or choose another train.model"):
        export = export_network(model, info)
        with network.computing():
            predictions = network(images, None)
            expected = task.PORTABLE.expected(predictions)
            difference = compared(network, export, images, expected, "onnxruntime")
    onnx = export.file({**export.about, "largest_difference": difference}, metadata_of(info, settings))
    parameters = sum(weight.numel() for weight in model.parameters())
    return Portable(info, parameters, onnx, _selftest(task.PORTABLE, images, predictions), difference)


def _selftest(portable_: PortableTask, images: np.ndarray, predictions: Any) -> bytes:
    """Return the self-test as safetensors: the first images, and what a prediction must give for them."""
    expected = portable_.expected(predictions[: portable_.tested])
    tensors = {"images": images[: portable_.tested], **{f"expected.{k}": v for k, v in expected.items()}}
    content: bytes = safetensors.numpy.save(tensors)
    return content
