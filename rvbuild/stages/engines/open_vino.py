"""Graphs computed by OpenVINO, on a CPU."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rvbuild.cores import thread_count
from rvbuild.errors import ModelError
from rvbuild.stages.engines.graph import Interface

_CONVERTER = "openvino.tools.ovc"
"""Importing it reports the import to a server of OpenVINO's makers, without asking."""


class OpenVinoGraph:
    """A graph in OpenVINO; see `rvbuild.stages.engines.graph.Graph`.

    It is compiled for one image, with as many streams of one thread each as there are threads: how sums are rounded
    depends neither on their number nor on the size of a batch.

    Parameters
    ----------
    path
        The `model.onnx`.
    device
        "auto" is the CPU.

    Raises
    ------
    ModelError
        The device is a GPU.
    Exception
        Whatever OpenVINO raises for a file that it cannot open.
    """

    at_once, on_cpu = 1, True

    def __init__(self, path: Path, device: str) -> None:
        if device.startswith("cuda"):
            raise ModelError(
                f'predict.device: "{device}" was requested, but OpenVINO computes on the CPU; use the device cpu, or '
                "the engine torch"
            )
        core = _core()
        model = core.read_model(str(path))
        self.interface = Interface(
            [(_name(item), _type(item), _shape(item)) for item in model.inputs], [_name(item) for item in model.outputs]
        )
        # Metadata of ONNX are attributes of the framework there.
        about = dict(model.rt_info.items()).get("framework", {})
        self.metadata: Mapping[str, str] = {
            str(key): str(getattr(value, "value", value)) for key, value in about.items()
        }
        if len(model.inputs) == 1 and not model.inputs[0].get_partial_shape().rank.is_dynamic:
            model.reshape([1, *list(model.inputs[0].get_partial_shape())[1:]])
        threads = thread_count()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Processors that have them would compute in 16 bits.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        self._model = core.compile_model(model, "CPU", settings)
        self._of_thread = threading.local()

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the output for an image."""
        request: Any = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._model.create_infer_request()
        output: np.ndarray = request.infer({0: images}, share_inputs=True, share_outputs=True)[0]
        return output


@functools.cache
def _core() -> Any:
    """Return the only core of this process, which stays to its end.

    The CPU plugin of each core gives the thread that makes it another stack for signals, and puts the one before back
    when it goes. If cores go in the order in which they came, that one is gone already: the next signal that Python
    handles, such as Ctrl-C, ends the process, without a word.
    """
    return import_openvino().Core()


def import_openvino() -> ModuleType:
    """Return the package, imported without its converter, which sends data of its use."""
    kept = {_CONVERTER: sys.modules[_CONVERTER]} if _CONVERTER in sys.modules else {}
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[_CONVERTER]
        sys.modules.update(kept)
    module: ModuleType = openvino
    return module


def _name(item: Any) -> str:
    return str(next(iter(sorted(item.names)), ""))


def _type(item: Any) -> str:
    return {"f32": "float32", "f64": "float64"}.get(item.element_type.get_type_name(), str(item.element_type))


def _shape(item: Any) -> list[int]:
    sizes = list(item.get_partial_shape())[1:]
    return [-1 if size.is_dynamic else int(size.get_length()) for size in sizes]
