"""The learner on its own: any model on any torch dataset, without scenes, rasters or a project.

It is the training of projects: the same loop, schedules, measured batch normalisation, choice of the best epoch and
continuation after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, default_collate

from rvbuild.errors import ModelError
from rvbuild.learn.chips.loader import Batch, Loader, Request
from rvbuild.learn.device import reproducible as reproducibly
from rvbuild.learn.device import seed_cpu, select_device, upload
from rvbuild.learn.hooks import Targets
from rvbuild.learn.models.weights import load_state
from rvbuild.learn.passes.base import Data
from rvbuild.learn.passes.whole import Whole
from rvbuild.learn.selection import Epoch, Scores
from rvbuild.learn.training import Training
from rvbuild.progress import Progress, Silent
from rvbuild.settings.train import LoopSettings

Item = tuple[Any, Any]
Loss = Callable[[Any, Any], torch.Tensor]
Metrics = Callable[[Any, Any], Mapping[str, float]]


@dataclass(frozen=True)
class Fitted:
    """The result of `fit`.

    Attributes
    ----------
    model : torch.nn.Module
        The trained model, in eval mode on its device.
    log : list of dict
        One entry for each epoch: `epoch` (from 1), `lr` of its last step, `train_loss`, `val_loss`, `metrics`.
    kept_epoch : int
        The epoch of the weights.
    """

    model: nn.Module
    log: list[Epoch]
    kept_epoch: int


def fit(
    model: nn.Module,
    train: Dataset[Item],
    validation: Dataset[Item] | None = None,
    *,
    loss: Loss,
    metrics: Metrics | None = None,
    epochs: int = 10,
    batch_size: int = 8,
    lr: float = 1e-3,
    optimizer: Literal["adam", "adamw", "sgd"] = "adam",
    weight_decay: float = 0.0,
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle",
    best: str | None = None,
    patience: int = 0,
    seed: int = 0,
    device: str = "auto",
    workers: int = 0,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Train a model on a map-style dataset of (input, target) pairs. The same arguments give the same weights.

    Parameters
    ----------
    model : torch.nn.Module
        Is called with a batch of inputs; it is moved to the device and trained in place.
    train : torch.utils.data.Dataset
        With `__len__`; items are (input, target), an input is a float tensor. Targets are tensors, or dicts of them;
        `default_collate` makes batches. Random augmentation in `train` may draw from the generators of torch, numpy and
        Python: they are seeded for each batch.
    validation : torch.utils.data.Dataset, optional
        Likewise; scored after each epoch.
    loss : callable
        (outputs, targets) → a scalar tensor.
    metrics : callable, optional
        (outputs, targets) → figures of a validation batch by name; their means over the chips are logged.
    epochs : int
        Passes over `train`.
    batch_size : int
        Items of a step.
    lr : float
        Learning rate; with `one_cycle` the highest.
    weight_decay : float
        As the optimizer of torch has it.
    optimizer : str
        `adam`, `adamw`, or `sgd` with a momentum of 0.9.
    schedule : str
        `one_cycle`, `cosine` or `constant`.
    best : str, optional
        Keep the weights of the epoch with the highest figure of this name. Default: those of the last epoch.
    patience : int
        End after so many epochs without a better figure `best`; 0: never.
    seed : int
        Decides the order of items, and what the model and the dataset draw.
    device : str
        `auto` (a GPU if there is one), `cpu`, `cuda`, or one GPU such as `cuda:1`.
    workers : int
        Processes that make batches; 0: this one.
    resume : Path, optional
        A directory for checkpoints: a training that was killed continues there, with the same result. It must be of
        the same model, data and loss; other settings are compared.
    progress : Progress, optional
        Is told epochs, items and scores.

    Returns
    -------
    Fitted

    Raises
    ------
    ModelError
        The settings do not go together, there is nothing to learn from, or the training diverges.

    Examples
    --------
    >>> import torch, rvbuild
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> line = torch.utils.data.TensorDataset(x, 3 * x + 1)
    >>> fitted = rvbuild.fit(torch.nn.Linear(1, 1), line, loss=torch.nn.functional.mse_loss, lr=0.1, epochs=20)
    >>> [round(value.item(), 1) for value in fitted.model.parameters()]
    [3.0, 1.0]
    """
    splits = {"train": train} if validation is None else {"train": train, "validation": validation}
    counts = {split: len(data) for split, data in splits.items()}  # type: ignore[arg-type]
    if not counts["train"]:
        raise ModelError("fit: the training dataset is empty")
    if patience and best is None:
        raise ModelError("fit: patience needs best, the figure that is to become better")
    if best is not None and (metrics is None or not counts.get("validation")):
        raise ModelError("fit: best needs metrics, and a validation dataset with items")
    settings: LoopSettings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "momentum": 0.9,
        "schedule": schedule,
        "step_epochs": [],
        "amp": False,
        "select": "last" if best is None else "best",
        "select_metric": best or "",
        "patience": patience,
    }
    where = select_device(device, "device")
    with reproducibly(seed, where):
        passes = Whole(
            model,
            Data(Loader(_Maker(splits, seed), workers, ahead=False), counts["train"], counts.get("validation", 0)),
            _Objective(loss, metrics),
            _as_they_are,
            settings,
            seed=seed,
            device=where,
            progress=progress or Silent(),
        )
        training = Training(passes)
        if resume is not None:
            resume.mkdir(parents=True, exist_ok=True)
        trained = training.run(resume, json.dumps([settings, counts, seed], sort_keys=True))
    load_state(model, trained.weights)
    return Fitted(model.eval(), trained.lines, trained.kept_epoch)


def _as_they_are(images: torch.Tensor, valid: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    return upload(images, device)


class _Maker(Dataset[Batch]):
    """Makes a batch of a dataset's items from a request: the same one, whichever process calls it."""

    def __init__(self, splits: Mapping[str, Dataset[Item]], seed: int) -> None:
        self._splits, self._seed = dict(splits), seed

    def __getitem__(self, request: Request) -> Batch:
        """Return the batch; what the dataset draws follows from seed, epoch and items."""
        drawn = np.random.SeedSequence([self._seed, request.epoch or 0, *request.chips])
        seed_cpu(int(drawn.generate_state(1)[0]))
        images, targets = default_collate([self._splits[request.split][position] for position in request.chips])
        return Batch(images, None, dict(targets) if isinstance(targets, Mapping) else {_TARGET: targets})


_TARGET = "target"
"""The name of targets that are plain tensors."""


class _Objective:
    """A loss and metrics as functions of outputs and targets."""

    def __init__(self, loss: Loss, metrics: Metrics | None) -> None:
        self._loss, self._metrics = loss, metrics
        self._sums: dict[str, float] = {}
        self._count = 0

    def loss(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one batch."""
        return self._loss(model(images), targets.get(_TARGET, targets))

    def parts(self) -> dict[str, float]:
        """Return nothing: the loss is one."""
        return {}

    def validate(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one validation batch, and count its metrics."""
        outputs, wanted = model(images), targets.get(_TARGET, targets)
        figures = self._metrics(outputs, wanted) if self._metrics is not None else {}
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * len(images)
        self._count += len(images)
        return self._loss(outputs, wanted)

    def weight(self, targets: Targets) -> float:
        """Return 1: batches are not cut here."""
        return 1.0

    def counts(self) -> tuple[dict[str, float], int]:
        """Return the sums of the metrics and the number of chips since the last call."""
        counts = self._sums, self._count
        self._sums, self._count = {}, 0
        return counts

    def count(self, counts: tuple[dict[str, float], int]) -> None:
        """Add such sums."""
        for name, value in counts[0].items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += counts[1]

    def scores(self) -> Scores:
        """Return the means of the metrics since the last call."""
        sums, count = self.counts()
        return {name: total / count for name, total in sums.items()}
