"""An exported network as a predictor: onnxruntime or OpenVINO computes it, without torch."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rvbuild import tasks
from rvbuild.cores import thread_count
from rvbuild.errors import DataError, ModelError
from rvbuild.learn.export.inputs import as_input, input_type
from rvbuild.learn.model_files import ModelInfo
from rvbuild.process.memory import give_back
from rvbuild.stages.engines.fits import misfit
from rvbuild.stages.engines.graph import Graph, Interface
from rvbuild.stages.engines.onnx_runtime import OnnxRuntimeGraph
from rvbuild.stages.engines.open_vino import OpenVinoGraph
from rvbuild.stages.names import ENGINE_EXTRAS, ExportedEngine

METADATA = "rvbuild"
"""The entry of the metadata that says how the output is read, as JSON."""

Reduction = Callable[[Any], Any]
"""Returns what is needed of a prediction, in memory of its own."""

Taken = TypeVar("Taken")

_GRAPHS: Mapping[ExportedEngine, Callable[[Path, str], Graph]] = {
    "onnxruntime": OnnxRuntimeGraph,
    "openvino": OpenVinoGraph,
}


def is_installed(engine: str) -> bool:
    """Tell whether an engine is installed, without importing it: a package of the same name."""
    return importlib.util.find_spec(engine) is not None


class ExportedNetwork:
    """A network that an engine computes; see `rvbuild.stages.predictor.Predictor`.

    Images are computed one by one, on as many threads as may compute.

    Parameters
    ----------
    graph
        The graph, open in the engine.
    engine
        The engine, for messages.
    info
        The description of the model.
    where
        The file, for messages.
    """

    def __init__(self, graph: Graph, engine: ExportedEngine, info: ModelInfo, where: str) -> None:
        self.info = info
        self.on_cpu = graph.on_cpu
        self._graph, self._engine, self._where = graph, engine, where
        self._portable = tasks.get(info.task).PORTABLE
        self._reading = _reading(graph.metadata, where)
        _require_interface(graph.interface, info, self._portable.output, where)
        self._reduction: Reduction | None = None
        threads = thread_count()
        self._threads = ThreadPoolExecutor(threads, "rvbuild-engine") if threads > 1 else None

    def reduced(self, reduction: Reduction) -> ExportedNetwork:
        """Return the same network with reduced predictions; what is left out is never copied."""
        network = copy.copy(self)
        network._reduction = reduction
        return network

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Return a context: there is nothing to prepare."""
        yield

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch: a list with an element for each image."""
        return [prediction for part in self._computed(images, valid, self._predictions) for prediction in part]

    def output(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return the output of the graph for a batch.

        Raises
        ------
        ModelError
            The graph cannot be computed.
        """
        return np.concatenate(self._computed(images, valid, np.array))

    def _predictions(self, output: np.ndarray) -> list[Any]:
        reduction = self._reduction
        if reduction is None:
            return list(self.read(output.copy()))
        return [reduction(prediction) for prediction in self.read(output)]

    def _computed(
        self, images: np.ndarray, valid: np.ndarray | None, take: Callable[[np.ndarray], Taken]
    ) -> list[Taken]:
        """Return what `take` makes of the outputs of parts of a batch, in the threads that compute them."""
        step = self._graph.at_once or len(images)
        parts = [slice(start, start + step) for start in range(0, len(images), step)]

        def computed(part: slice) -> Taken:
            values = as_input(images[part], None if valid is None else valid[part])
            try:
                output = self._graph.run(values)
            except Exception as error:  # engines have their own exceptions, which share no base
                raise ModelError(f"{self._where}: {self._engine} cannot compute it: {_line(error)}") from error
            if not isinstance(output, np.ndarray) or output.dtype != np.float32 or len(output) != len(values):
                raise DataError(f"{self._where}: expected one array of float32 for each of {len(values)} images")
            return take(output)

        if self._threads is None or len(parts) == 1:
            return [computed(part) for part in parts]
        return list(self._threads.map(computed, parts))

    def read(self, output: np.ndarray) -> Any:
        """Return the predictions of images from the output of the graph."""
        try:
            side = self.info.chip_px
            return self._portable.read(output, len(self.info.outputs), (side, side), self._reading)
        except DataError as error:
            raise DataError(f"{self._where}: {error}") from error


def require_engine(engine: ExportedEngine, info: ModelInfo, where: str) -> None:
    """Raise a ModelError if an engine is not installed, or cannot compute a model."""
    if not is_installed(engine):
        runtime = {"onnxruntime": "rvbuild-runtime", "openvino": "rvbuild-runtime[openvino]"}
        source = f"rvbuild[{ENGINE_EXTRAS[engine]}]" if is_installed("torch") else runtime[engine]
        raise ModelError(f"{where}: needs the package {engine}: pip install '{source}'")
    if reason := misfit(engine, info.dtype):
        raise ModelError(f"{where}: {reason}; use the engine onnxruntime or torch")


def load_exported(
    path: Path, info: ModelInfo, engine: ExportedEngine, device: str = "auto", where: str = ""
) -> ExportedNetwork:
    """Open an exported network, ready to predict.

    Parameters
    ----------
    path
        The `model.onnx`; `model.onnx.data` lies beside it if its weights are large.
    info
        The description of the model.
    engine
        What computes it.
    device
        `predict.device`. "auto" is the CPU.
    where
        The file, for messages; default: the path.

    Raises
    ------
    ModelError
        The engine is not installed, or cannot open the file or use the device.
    DataError
        The file is no network of this model.
    """
    where = where or str(path)
    require_engine(engine, info, where)
    try:
        graph = _GRAPHS[engine](path, device)
    except ModelError:
        raise
    except Exception as error:  # engines have their own exceptions, which share no base
        raise ModelError(f"{where}: {engine} cannot open it: {_line(error)}") from error
    give_back()  # the file, and weights in other orders
    return ExportedNetwork(graph, engine, info, where)


def _reading(metadata: Mapping[str, str], where: str) -> Mapping[str, Any]:
    """Return how the output is read."""
    try:
        reading = json.loads(metadata.get(METADATA) or "")["reading"]
    except (ValueError, TypeError, KeyError, RecursionError):
        reading = None
    if not isinstance(reading, dict):
        raise DataError(f'{where}: is not written by `rvbuild bundle`: its metadata have no entry "{METADATA}"')
    return reading


def _require_interface(interface: Interface, info: ModelInfo, output: str, where: str) -> None:
    """Raise a DataError unless the graph has the input and the output of such a model."""
    expected = [("images", input_type(info.dtype), [info.bands, info.chip_px, info.chip_px])]
    inputs, outputs = interface
    if inputs != expected or outputs != [output]:
        raise DataError(f"{where}: expected the input {expected[0]} and the output {output}; found {inputs}, {outputs}")


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
