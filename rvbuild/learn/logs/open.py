"""The sinks of a training by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild.learn.logs.epochs import Sink
from rvbuild.learn.logs.files import CsvFile, GrowingFile
from rvbuild.learn.logs.mlflow import MLflow
from rvbuild.learn.logs.tensorboard import TensorBoard


def open_sinks(
    path: Path, names: Sequence[str], project: str, training: str, settings: Mapping[str, object]
) -> list[Sink]:
    """Return the sinks of a training.

    Parameters
    ----------
    path
        The file that grows by a line for each epoch; the others write beside it.
    names
        `train.log`.
    project, training
        What the training is called, and its identity.
    settings
        `[train]`, for sinks that show how runs differ.
    """
    folder = path.parent
    sinks: dict[str, Sink] = {
        "csv": CsvFile(path.with_suffix(".csv")),
        "tensorboard": TensorBoard(folder / "tensorboard" / training),
        "mlflow": MLflow(folder / "mlruns", project, training, settings),
    }
    return [GrowingFile(path), *(sinks[name] for name in names)]
