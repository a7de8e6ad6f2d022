"""Graphs computed by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvbuild.cores import thread_count
from rvbuild.errors import ModelError
from rvbuild.stages.engines.graph import Interface

_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}


class OnnxRuntimeGraph:
    """A graph in onnxruntime; see `rvbuild.stages.engines.graph.Graph`.

    On a CPU each call computes on one thread, so that the number of threads cannot change how sums are rounded.

    Parameters
    ----------
    path
        The `model.onnx`.
    device
        "auto" is the CPU.

    Raises
    ------
    ModelError
        There is no such device.
    Exception
        Whatever onnxruntime raises for a file that it cannot open.
    """

    def __init__(self, path: Path, device: str) -> None:
        import onnxruntime

        providers: list[Any] = ["CPUExecutionProvider"]
        on_gpu = device.startswith("cuda")
        if on_gpu:
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise ModelError(
                    f'predict.device: "{device}" was requested, but onnxruntime {onnxruntime.__version__} has none; '
                    "install onnxruntime-gpu, or use the device cpu"
                )
            providers = [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), *providers]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = thread_count() if on_gpu else 1, 1
        options.log_severity_level = 4
        options.use_deterministic_compute = True
        # Waiting threads sleep: cores are shared with those that read and write.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A path instead of its bytes: tensors outside of the file would have to lie beside it.
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.at_once, self.on_cpu = (0, False) if on_gpu else (1, True)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.interface = Interface(
            [(item.name, _TYPES.get(item.type, item.type), list(item.shape)[1:]) for item in inputs],
            [item.name for item in outputs],
        )
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the output for images."""
        output: np.ndarray = self._session.run(None, {self.interface.inputs[0][0]: images})[0]
        return output
