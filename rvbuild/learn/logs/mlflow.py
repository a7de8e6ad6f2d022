"""The epochs of a training as a run of MLflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.learn.logs.epochs import figures
from rvbuild.learn.selection import Epoch

_TRAINING = "rvbuild.training"
"""The tag of a run with the identity of its training."""

_EPOCH = "epoch"
"""The metric that tells which epochs a run has."""

_NOT_IN_NAMES = re.compile(r"[^/\w.\- :]")

_LONGEST = 500
_MOST_AT_ONCE = 100
"""What every version of the server takes: characters of a parameter, and parameters of a request."""

_UNLESS_SET = {
    # A server that is gone must not hold up a training for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Nothing is told to anybody but the server that the user names.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow prefers databases, for which the skinny package has no drivers.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


class MLflow:
    """A run of MLflow: on the server that `MLFLOW_TRACKING_URI` names, or else in a directory.

    Parameters
    ----------
    folder
        The directory.
    experiment
        The name of the experiment.
    training
        The identity of the training: one that continues goes on with its run.
    settings
        `[train]`: each value is a parameter of the run, those of tables with a dot, such as `class_weights.car`.
    """

    name = "the log for MLflow"

    def __init__(self, folder: Path, experiment: str, training: str, settings: Mapping[str, object]) -> None:
        self._folder, self._experiment, self._training = folder, experiment, training
        self._settings = settings
        self._client: Any = None
        self._run = ""

    def begin(self, lines: Sequence[Epoch]) -> None:
        """Continue after these epochs."""
        for name, value in _UNLESS_SET.items():
            os.environ.setdefault(name, value)
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            self._folder.mkdir(parents=True, exist_ok=True)
            address = self._folder.absolute().as_uri()
        from mlflow import MlflowClient

        self._client = client = MlflowClient(address)
        known = client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known else client.create_experiment(self._experiment)
        query = f"tags.\"{_TRAINING}\" = '{self._training}'"
        runs = client.search_runs([experiment], query, max_results=1)
        done = int(runs[0].data.metrics.get(_EPOCH, 0)) if runs else 0
        if runs and done <= len(lines):
            self._run = runs[0].info.run_id
            client.update_run(self._run, status="RUNNING")
        else:  # none, or one of a training that starts again
            if runs:
                client.delete_run(runs[0].info.run_id)
            self._run, done = client.create_run(experiment, tags={_TRAINING: self._training}).info.run_id, 0
            self._add_parameters()
        for line in lines[done:]:
            self.add(line)

    def _add_parameters(self) -> None:
        from mlflow.entities import Param

        values = [(_NOT_IN_NAMES.sub("_", name), str(value)) for name, value in _flat(self._settings)]
        parameters = [Param(name, value[:_LONGEST]) for name, value in values]
        for start in range(0, len(parameters), _MOST_AT_ONCE):
            self._client.log_batch(self._run, params=parameters[start : start + _MOST_AT_ONCE])

    def add(self, line: Epoch) -> None:
        """Add an epoch."""
        import time

        from mlflow.entities import Metric

        epoch, now = line["epoch"], int(time.time() * 1000)
        values = {_NOT_IN_NAMES.sub("_", name): value for name, value in figures(line).items()}
        # The number of the epoch comes with its figures, so a killed training has either all of them or none.
        metrics = [Metric(name, value, now, epoch) for name, value in {**values, _EPOCH: epoch}.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, finished: bool) -> None:
        """End the run."""
        if self._run:
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of a table and of those inside it, by names with dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
