"""The export stage: the trained network as ONNX, for the engine that predicts, and compared with torch there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from rvbuild import tasks
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS
from rvbuild.progress import Progress
from rvbuild.settings.train import TrainedSettings
from rvbuild.stages.engines.exporting import compared, export_network, sample, told_of
from rvbuild.stages.names import ExportedEngine
from rvbuild.stages.network import Network


class ExportSettings(TypedDict):
    """The settings of the stage."""

    engine: ExportedEngine
    """What is to compute the network."""
    trained: NotRequired[TrainedSettings]
    """The model that the project names. In no key."""


def run(inputs: Mapping[str, Sequence[Path]], settings: ExportSettings, outputs: Path, progress: Progress) -> None:
    """Export a trained network.

    Parameters
    ----------
    inputs
        `model`: `model.safetensors` and `model.json`; `stats`: the statistics of the training imagery.
    settings
        See `ExportSettings`.
    outputs
        Receives `model.onnx`, and `model.onnx.data` if the weights are large.
    progress
        Receives nothing: the exporter of torch reports none.

    Raises
    ------
    ModelError
        The network cannot be exported, or predicts something else in the engine than in torch.
    """
    files = {path.name: path for path in inputs["model"]}
    model, info = load_model(files[WEIGHTS], files[DESCRIPTION], "cpu", trained=settings.get("trained"))
    (stats,) = inputs["stats"]
    images = sample(info, json.loads(stats.read_text(encoding="utf-8")))
    network = Network(model, info, "cpu")
    with told_of("predict.engine", 'Use engine = "torch", or choose another train.model'):
        export = export_network(model, info, outputs)
        with network.computing():
            expected = tasks.get(info.task).PORTABLE.expected(network(images, None))
            compared(network, export, export.write(export.about), images, expected, settings["engine"])
