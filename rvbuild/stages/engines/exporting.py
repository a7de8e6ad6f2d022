"""Networks exported for other engines, and compared with torch. torch and onnx are imported here."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from rvbuild import tasks
from rvbuild.errors import ModelError
from rvbuild.geo.raster.stats import ImageFigures
from rvbuild.learn.export.graph import export, with_metadata
from rvbuild.learn.model_files import ONNX, ONNX_WEIGHTS, ModelInfo
from rvbuild.stages.engines.exported import METADATA, load_exported
from rvbuild.stages.names import ExportedEngine
from rvbuild.stages.network import Network
from rvbuild.tasks.portable import LARGEST_DIFFERENCE

_FEWEST = 2
"""Images that both engines predict at least; the first become the self-test of a bundle."""

_SCALES_PX = (32, 8, 2)


class Export(NamedTuple):
    """An exported network."""

    network: nn.Module
    """Maps normalised images to what the graph gives."""
    content: bytes
    """The graph, without metadata."""
    about: Mapping[str, Any]
    """What its metadata say of it: the task, the classes, and how the output is read."""
    folder: Path
    """Where its file is written; the weights lie there if they are too large for it."""

    @property
    def weights(self) -> Path | None:
        """The file of the weights, if they have one of their own."""
        path = self.folder / ONNX_WEIGHTS
        return path if path.is_file() else None

    def write(self, about: Mapping[str, Any], others: Mapping[str, str] | None = None) -> Path:
        """Write the `model.onnx` that says `about` of itself, with other metadata."""
        text = json.dumps(about, sort_keys=True, ensure_ascii=False)
        path = self.folder / ONNX
        path.write_bytes(with_metadata(self.content, {**(others or {}), METADATA: text}))
        return path


def export_network(model: nn.Module, info: ModelInfo, folder: Path) -> Export:
    """Export a trained network.

    Parameters
    ----------
    model, info
        The network, and its description.
    folder
        Receives `model.onnx.data`, if one file cannot hold the weights, and `model.onnx` when it is written.

    Raises
    ------
    ModelError
        It cannot be exported.
    """
    task = tasks.get(info.task)
    exported = task.exported(model, info)
    exported.network.eval()
    content = export(exported.network, info, task.PORTABLE.output, exported.translations, folder)
    about: dict[str, Any] = {
        "task": info.task,
        "model": info.model,
        "bands": info.bands,
        "dtype": info.dtype,
        "outputs": list(info.outputs),
        "output_ids": info.output_ids,
        "reading": dict(exported.reading),
    }
    made = Export(exported.network, content, about, folder)
    if made.weights:
        # So that the file of the graph differs if the weights do.
        with made.weights.open("rb") as file:
            about["weights_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return made


@contextlib.contextmanager
def told_of(key: str, remedy: str) -> Iterator[None]:
    """Say in errors of a block which key of the project asks for an export, and what to do."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{key}: {error}. {remedy}") from error


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


def compared(
    network: Network,
    export: Export,
    path: Path,
    images: np.ndarray,
    expected: Mapping[str, np.ndarray],
    engine: ExportedEngine,
) -> float:
    """Return the power of ten that the largest difference of a score between torch and an engine is below.

    A figure itself would differ from one processor to the next, and so would the bundle.

    A network can amplify the rounding of float32 so much that two ways to compute it differ by more than
    `LARGEST_DIFFERENCE`, although both are right. Then the engine must be as near to the scores of float64: within
    `LARGEST_DIFFERENCE`, or nearer than torch.

    Parameters
    ----------
    network
        The network in torch.
    export, path
        The exported network, and its file.
    images
        As `sample` returns them.
    expected
        What the task expects of the predictions of torch.
    engine
        The engine.

    Raises
    ------
    ModelError
        The engine cannot compute it, or predicts something else.
    """
    info, portable = network.info, tasks.get(network.info.task).PORTABLE
    session = load_exported(path, info, engine, "cpu", where=f'the model "{info.model}"')
    output = session.output(images, None)
    values = network.normalized(images, None)
    with torch.inference_mode():
        of_torch = export.network(values).numpy()
    wrong, count = portable.misses(session.read(output), expected)
    difference = portable.difference(of_torch, output, len(info.outputs))
    near = difference <= LARGEST_DIFFERENCE or _as_exact(output, of_torch, export.network, values, info)
    if wrong or not near:
        raise ModelError(
            f'the model "{info.model}" predicts something else in {engine} than in torch: {wrong} of {count} classes '
            f"differ, and scores by up to {difference:.2g}"
        )
    return max(1e-6, 10.0 ** math.ceil(math.log10(difference))) if difference else 1e-6


def _as_exact(
    output: np.ndarray, of_torch: np.ndarray, network: nn.Module, values: torch.Tensor, info: ModelInfo
) -> bool:
    """Tell whether the scores of an engine are as near to those of float64 as the ones of torch, or near enough."""
    try:
        with torch.inference_mode():
            exact = copy.deepcopy(network).double()(values.double()).numpy()
    except (RuntimeError, TypeError):  # of the user's own: it computes in float32 only
        return False
    difference = tasks.get(info.task).PORTABLE.difference
    of_engine, own = (difference(each, exact, len(info.outputs)) for each in (output, of_torch))
    return of_engine <= max(own, LARGEST_DIFFERENCE)
