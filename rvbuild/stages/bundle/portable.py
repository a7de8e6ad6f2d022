"""The network of a bundle as ONNX, checked against torch, and a self-test: an image with the classes that it must give.

torch and onnx are imported here: only a bundle with `bundle.onnx` needs them.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch

from rvbuild import tasks
from rvbuild.errors import ModelError
from rvbuild.geo.raster.stats import ImageFigures
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.export.graph import export, with_metadata
from rvbuild.learn.model_files import ModelInfo
from rvbuild.settings.train import TrainedSettings
from rvbuild.stages.bundle.qgis import metadata_of
from rvbuild.stages.bundle.settings import BundleStageSettings
from rvbuild.stages.engines.exported import METADATA, ExportedNetwork, load_exported
from rvbuild.stages.network import Network
from rvbuild.tasks.portable import Exported
from rvbuild.tasks.portable import Portable as PortableTask

_FEWEST = 2
"""Images that both engines predict at least; the first become the self-test."""

LARGEST_DIFFERENCE = 1e-3
"""By how much a score may differ between torch and onnxruntime."""

_SCALES_PX = (32, 8, 2)


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
    task = tasks.get(info.task)
    network = Network(model, info, "cpu")
    exported = task.exported(model, info)
    exported.network.eval()
    content = export(exported.network, info, task.PORTABLE.output, exported.translations)
    about = _described(info, exported)
    with tempfile.TemporaryDirectory(prefix="rvbuild-onnx-") as folder, network.computing():
        path = Path(folder) / "model.onnx"
        path.write_bytes(with_metadata(content, {METADATA: json.dumps(about, sort_keys=True)}))
        session = load_exported(path, info, "onnxruntime", "cpu", where=f'bundle.onnx: the model "{info.model}"')
        predictions = network(images, None)
        expected = task.PORTABLE.expected(predictions)
        difference = _compared(network, session, exported, images, expected)
    about["largest_difference"] = difference
    metadata = {**metadata_of(info, settings), METADATA: json.dumps(about, sort_keys=True, ensure_ascii=False)}
    parameters = sum(weight.numel() for weight in model.parameters())
    onnx = with_metadata(content, metadata)
    return Portable(info, parameters, onnx, _selftest(task.PORTABLE, images, predictions), difference)


def sample(info: ModelInfo, stats: ImageFigures) -> np.ndarray:
    """Return images like those of the training, `(n, C, H, W)` in their dtype: patches of several sizes.

    Their values spread as those of the training imagery do, band by band.
    """
    random, side = np.random.default_rng(0), info.chip_px
    count = max(_FEWEST, tasks.get(info.task).PORTABLE.tested)
    noise = np.zeros((count, info.bands, side, side))
    for patch in _SCALES_PX:
        patches = -(-side // patch)
        coarse = random.random((count, info.bands, patches, patches)) - 0.5
        noise += np.kron(coarse, np.ones((patch, patch)))[..., :side, :side]
    dtype = np.dtype(info.dtype)
    means, stds = _spread(info, stats, dtype)
    values = means + stds * noise / noise.std()
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        # Doubles beyond 2^53 are not exact: the last ones would leave the range of 64-bit integers.
        values = np.clip(np.rint(values), limits.min, min(limits.max, 1 << 53))
    images: np.ndarray = values.astype(dtype)
    return images


def _spread(info: ModelInfo, stats: ImageFigures, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each band, (C, 1, 1)."""
    bands = stats["bands"]
    if len(bands) != info.bands or stats.get("dtype") != info.dtype:
        high = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
        figures = [(high / 2, high / 6)] * info.bands
    else:
        figures = [(band["mean"], band["std"]) for band in bands]
    means, stds = np.array(figures, dtype=np.float64).T.reshape(2, -1, 1, 1)
    return means, stds


def _described(info: ModelInfo, exported: Exported) -> dict[str, Any]:
    return {
        "task": info.task,
        "model": info.model,
        "bands": info.bands,
        "dtype": info.dtype,
        "outputs": list(info.outputs),
        "output_ids": info.output_ids,
        "reading": dict(exported.reading),
    }


def _compared(
    network: Network,
    session: ExportedNetwork,
    exported: Exported,
    images: np.ndarray,
    expected: Mapping[str, np.ndarray],
) -> float:
    """Return the power of ten that the largest difference of a score is below.

    A figure itself would differ from one processor to the next, and so would the bundle.
    """
    info, portable_ = network.info, tasks.get(network.info.task).PORTABLE
    output = session.output(images, None)
    normalized = network.normalized(images, None)
    with torch.inference_mode():
        of_torch = exported.network(normalized).numpy()
    difference = portable_.difference(of_torch, output, len(info.outputs))
    wrong, count = portable_.misses(session.read(output), expected)
    if wrong or not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f'bundle.onnx: the model "{info.model}" predicts something else in onnxruntime than in torch: {wrong} of '
            f"{count} classes differ, and scores by up to {difference:.2g}. Remove the key, and report this"
        )
    return max(1e-6, 10.0 ** math.ceil(math.log10(difference))) if difference else 1e-6


def _selftest(portable_: PortableTask, images: np.ndarray, predictions: Any) -> bytes:
    """Return the self-test as safetensors: the first images, and what a prediction must give for them."""
    expected = portable_.expected(predictions[: portable_.tested])
    tensors = {"images": images[: portable_.tested], **{f"expected.{k}": v for k, v in expected.items()}}
    content: bytes = safetensors.numpy.save(tensors)
    return content
