"""A network in ONNX as a predictor: onnxruntime computes it, without torch."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvbuild import tasks
from rvbuild.cores import thread_count
from rvbuild.errors import DataError, ModelError
from rvbuild.learn.export.inputs import as_input, input_type
from rvbuild.learn.model_files import ModelInfo

ONNX = "model.onnx"
"""The file of an exported network, in a bundle."""

INSTALL = "pip install 'rvbuild[onnx]'"

METADATA = "rvbuild"
"""The entry of the metadata that says how the output is read, as JSON."""


def has_onnxruntime() -> bool:
    """Tell whether onnxruntime is installed, without importing it."""
    return importlib.util.find_spec("onnxruntime") is not None


class OnnxNetwork:
    """A network that onnxruntime computes; see `rvbuild.stages.predictor.Predictor`.

    Parameters
    ----------
    session
        An `onnxruntime.InferenceSession`.
    info
        The description of the model.
    where
        The file, for messages.
    """

    def __init__(self, session: Any, info: ModelInfo, where: str) -> None:
        self.info = info
        self._session, self._where = session, where
        self._portable = tasks.get(info.task).PORTABLE
        self._reading = _reading(session, where)
        _require_interface(session, info, self._portable.output, where)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Return a context: there is nothing to prepare."""
        yield

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch."""
        return self.read(self.output(images, valid))

    def output(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return the output of the graph for a batch.

        Raises
        ------
        ModelError
            The graph cannot be computed.
        """
        try:
            (output,) = self._session.run([self._portable.output], {"images": as_input(images, valid)})
        except Exception as error:  # onnxruntime has its own exceptions, which share no base
            raise ModelError(f"{self._where}: onnxruntime cannot compute it: {_line(error)}") from error
        if not isinstance(output, np.ndarray) or output.dtype != np.float32 or len(output) != len(images):
            raise DataError(f"{self._where}: expected one array of float32 for each of {len(images)} images")
        return output

    def read(self, output: np.ndarray) -> Any:
        """Return the predictions of a batch from the output of the graph."""
        try:
            side = self.info.chip_px
            return self._portable.read(output, len(self.info.outputs), (side, side), self._reading)
        except DataError as error:
            raise DataError(f"{self._where}: {error}") from error


def load_onnx(path: Path, info: ModelInfo, device: str = "auto", where: str = "") -> OnnxNetwork:
    """Open an exported network, ready to predict.

    Parameters
    ----------
    path
        The `model.onnx`.
    info
        The description of the model.
    device
        `predict.device`. "auto" is the CPU.
    where
        The file, for messages; default: the path.

    Raises
    ------
    ModelError
        onnxruntime is missing, or cannot open the file or use the device.
    DataError
        The file is no network of this model.
    """
    where = where or str(path)
    if not has_onnxruntime():
        raise ModelError(f"{where}: needs the package onnxruntime: {INSTALL}")
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ModelError(
                f'predict.device: "{device}" was requested, but onnxruntime {onnxruntime.__version__} has none; '
                "install onnxruntime-gpu, or use the device cpu"
            )
        providers = [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), *providers]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = thread_count(), 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    # Waiting threads sleep: cores are shared with those that read and write.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # A path instead of its bytes: tensors outside of the file would have to lie beside it.
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has its own exceptions, which share no base
        raise ModelError(f"{where}: onnxruntime cannot open it: {_line(error)}") from error
    return OnnxNetwork(session, info, where)


def _reading(session: Any, where: str) -> Mapping[str, Any]:
    """Return how the output is read."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    try:
        reading = json.loads(text or "")["reading"]
    except (ValueError, TypeError, KeyError, RecursionError):
        reading = None
    if not isinstance(reading, dict):
        raise DataError(f'{where}: is not written by `rvbuild bundle`: its metadata have no entry "{METADATA}"')
    return reading


def _require_interface(session: Any, info: ModelInfo, output: str, where: str) -> None:
    """Raise a DataError unless the graph has the input and the output of such a model."""
    kind = {"float32": "tensor(float)", "float64": "tensor(double)"}[input_type(info.dtype)]
    expected = [("images", kind, [info.bands, info.chip_px, info.chip_px])]
    inputs = [(item.name, item.type, list(item.shape)[1:]) for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs()]
    if inputs != expected or outputs != [output]:
        raise DataError(f"{where}: expected the input {expected[0]} and the output {output}; found {inputs}, {outputs}")


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
