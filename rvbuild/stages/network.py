"""A network of torch as a predictor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rvbuild import tasks
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.device import reproducible, select_device
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.normalize import Normalizer
from rvbuild.settings.train import TrainedSettings


class Network:
    """A network that predicts batches of chips; see `rvbuild.stages.predictor.Predictor`.

    Parameters
    ----------
    module
        The network, in eval mode on `device`.
    info
        Its description.
    device
        `predict.device`.
    """

    def __init__(self, module: nn.Module, info: ModelInfo, device: str) -> None:
        self.module, self.info = module, info
        self._device = select_device(device, "predict.device")
        self.on_cpu = self._device.type == "cpu"
        self._normalizer = Normalizer(info)
        self._task = tasks.get(info.task)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Return a context with fixed seeds and without gradients."""
        with reproducible(0, self._device), torch.inference_mode():
            yield

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch."""
        return self._task.forward(self.module, self.normalized(images, valid))

    def output(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return the output that the exported network would have; on the CPU."""
        network = self._task.exported(self.module, self.info).network.eval()
        with torch.inference_mode():
            output: np.ndarray = network(self.normalized(images, valid)).numpy()
        return output

    def normalized(self, images: np.ndarray, valid: np.ndarray | None) -> torch.Tensor:
        """Return a batch as the network takes it."""
        return self._normalizer(images, valid, self._device)


def load_network(
    weights: Path,
    description: Path,
    device: str = "auto",
    *,
    trained: TrainedSettings | None = None,
    run_embedded_code: bool = False,
) -> Network:
    """Load a trained network, ready to predict; see `rvbuild.learn.checkpoint.load_model`."""
    module, info = load_model(weights, description, device, trained=trained, run_embedded_code=run_embedded_code)
    return Network(module, info, device)
