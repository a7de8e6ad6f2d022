"""A trained model that is ready to predict, whatever computes it."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rvbuild.errors import ModelError
from rvbuild.learn.backend import load_backend
from rvbuild.learn.model_files import ONNX, ModelInfo, read_info, require_named
from rvbuild.settings.train import TrainedSettings
from rvbuild.stages.engines.exported import is_installed, load_exported, require_engine
from rvbuild.stages.names import EXPORTED_ENGINES, Engine, ExportedEngine


class Predictor(Protocol):
    """Predicts batches of chips."""

    @property
    def info(self) -> ModelInfo:
        """The description of the model."""

    @property
    def on_cpu(self) -> bool:
        """Whether nothing but cores computes; False if a GPU may."""

    def computing(self) -> AbstractContextManager[None]:
        """Return a context in which the predictor is called: with its seeds, threads and device."""

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch.

        Parameters
        ----------
        images
            `(N, C, H, W)` raw values, in the dtype of the imagery.
        valid
            `(N, C, H, W)` bool, False where there is no data; None: every pixel is valid.

        Returns
        -------
        Any
            One element per image, as the merger of the task takes it.
        """


class Wrapped:
    """What all predictors that call another one have.

    Parameters
    ----------
    predictor
        The other one.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def info(self) -> ModelInfo:
        """The description of the model."""
        return self._predictor.info

    @property
    def on_cpu(self) -> bool:
        """Whether nothing but cores computes the other one."""
        return self._predictor.on_cpu

    def computing(self) -> AbstractContextManager[None]:
        """Return the context of the predictor."""
        return self._predictor.computing()


@runtime_checkable
class WithOutput(Protocol):
    """A predictor of a network that is exported, or could be."""

    def output(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return the output of the export for a batch; see `rvbuild.tasks.portable`."""


def load_predictor(
    weights: Path,
    description: Path,
    device: str = "auto",
    *,
    trained: TrainedSettings | None = None,
    run_embedded_code: bool = False,
    engine: Engine = "auto",
    where: str = "",
) -> Predictor:
    """Load a trained model, ready to predict: of torch, of an engine of exported networks, or of a training backend.

    Parameters
    ----------
    weights, description, device, trained, run_embedded_code
        See `rvbuild.learn.checkpoint.load_model`; a backend chooses its device itself.
    engine
        What computes the network. For onnxruntime and OpenVINO there must be a `model.onnx` beside the weights, which
        are not read then.
    where
        The bundle that the files are from, for messages.

    Raises
    ------
    ModelError
        A file is damaged, the weights do not fit the model, or the model is made by another factory than the project
        names, or by one that cannot be used; or there is no such engine.
    """
    info = read_info(description)
    require_usable(weights, info, engine, where)
    if exported_by := exported_engine(engine, info):
        return load_exported(weights.with_name(ONNX), info, exported_by, device, where=_named(where, ONNX))
    if info.backend:
        if not run_embedded_code:
            require_named(description, info.model, info.model_args, trained)
        return load_backend(weights, info, info.code if run_embedded_code else None)
    from rvbuild.stages.network import load_network  # it imports torch

    return load_network(weights, description, device, trained=trained, run_embedded_code=run_embedded_code)


def require_usable(weights: Path, info: ModelInfo, engine: Engine, where: str = "") -> None:
    """Raise a ModelError if what is to compute a model is not installed, or needs an export that is not there.

    The arguments are those of `load_predictor`.
    """
    exported_by = exported_engine(engine, info)
    if exported_by is None:
        if not info.backend and not has_torch():
            raise ModelError(_named(where, "torch is not installed: pip install rvbuild, or use another engine"))
    elif weights.with_name(ONNX).is_file():
        require_engine(exported_by, info, _named(where, ONNX))
    else:
        reason = "torch is not installed" if engine == "auto" else f"{engine} was requested"
        advice = "Make the bundle again with onnx = true in [bundle], or predict with torch"
        raise ModelError(_named(where, f"{reason}, and there is no model as ONNX. {advice}"))


def _named(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text


def exported_engine(engine: Engine, info: ModelInfo) -> ExportedEngine | None:
    """Return the engine that computes a model from its export, without its own Python code; None: torch, or a backend.

    "auto" is torch where it is installed, and else the first engine that is.
    """
    if engine == "auto":
        if info.backend or has_torch():
            return None
        return next(filter(is_installed, EXPORTED_ENGINES), EXPORTED_ENGINES[0])
    return None if engine == "torch" else engine


def engine_of(engine: Engine, info: ModelInfo) -> str:
    """Return the name of what computes a model here: part of the keys of predictions, whose bytes it can change."""
    return exported_engine(engine, info) or ("backend" if info.backend else "torch")


def has_torch() -> bool:
    """Tell whether torch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None
