"""The learner on its own: any model on any torch dataset, without scenes, rasters or a project.

It is the training of projects: the same loop, schedules, measured batch normalisation, choice of the best epoch and
continuation after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from rvbuild.learn.functions import TARGET, FunctionObjective, Loss, Losses, Metrics
from rvbuild.learn.models.pretrained.weights import load_state
from rvbuild.learn.models.user import ENCODERS, find_encoder
from rvbuild.learn.passes.base import Data
from rvbuild.learn.passes.whole import Whole
from rvbuild.learn.selection import Epoch
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.learn.training import Training
from rvbuild.progress import Progress, Silent
from rvbuild.settings.train import LayerSettings, LoopSettings, of_encoder

Item = tuple[Any, Any]


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
    loss: Loss | Losses,
    metrics: Metrics | None = None,
    epochs: int = 10,
    batch_size: int = 8,
    accumulate: int = 1,
    lr: float = 1e-3,
    optimizer: Literal["adam", "adamw", "sgd"] = "adam",
    weight_decay: float = 0.0,
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle",
    warmup_epochs: float = 0.0,
    clip_norm: float | None = None,
    ema: float | None = None,
    encoder: nn.Module | None = None,
    freeze: int = 0,
    encoder_lr: float = 1.0,
    layer_decay: float = 1.0,
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
    loss : callable or mapping
        (outputs, targets) → a scalar tensor. Or several by name, each with its weight, `{"dice": (0.5, dice), …}`:
        their weighted sum, and the log has each of them.
    metrics : callable, optional
        (outputs, targets) → figures of a validation batch by name; their means over the chips are logged.
    epochs : int
        Passes over `train`.
    batch_size : int
        Items of a batch.
    accumulate : int
        Batches of a step.
    lr : float
        Learning rate; with `one_cycle` the highest.
    weight_decay : float
        As the optimizer of torch has it.
    optimizer : str
        `adam`, `adamw`, or `sgd` with a momentum of 0.9.
    schedule : str
        `one_cycle`, `cosine` or `constant`.
    warmup_epochs : float
        Epochs, also a part of one, in which the learning rate rises; 0: none, and 30 % of all epochs for `one_cycle`.
    clip_norm : float, optional
        The largest norm of the gradients of a step.
    ema : float, optional
        The decay of an average of the weights, which is then validated, selected and returned.
    encoder : torch.nn.Module, optional
        The module of `model` that `freeze`, `encoder_lr` and `layer_decay` are about. Default: `model.encoder`, or else
        `model.backbone`.
    freeze : int
        Epochs at the start in which the encoder does not learn.
    encoder_lr : float
        Factor of the learning rate of the encoder.
    layer_decay : float
        Factor of the learning rate of each layer of the encoder, relative to the one after it.
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
    >>> fitted = rvbuild.fit(torch.nn.Linear(1, 1), line, loss=torch.nn.functional.mse_loss, lr=0.1, epochs=40)
    >>> [round(value.item(), 1) for value in fitted.model.parameters()]
    [3.0, 1.0]
    """
    splits = {"train": train} if validation is None else {"train": train, "validation": validation}
    counts = {split: len(data) for split, data in splits.items()}  # type: ignore[arg-type]
    if not counts["train"]:
        raise ModelError("fit: the training dataset is empty")
    if isinstance(loss, Mapping) and not loss:
        raise ModelError("fit: loss: expected at least one loss")
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
    # What is off has no part in the identity of a training.
    if accumulate != 1:
        settings["accumulate"] = accumulate
    if warmup_epochs:
        settings["warmup_epochs"] = warmup_epochs
    if clip_norm is not None:
        settings["clip_norm"] = clip_norm
    if ema is not None:
        settings["ema"] = ema
    if freeze:
        settings["freeze"] = freeze
    if encoder_lr != 1:
        settings["encoder_lr"] = encoder_lr
    if layer_decay != 1:
        settings["layer_decay"] = layer_decay
    _require_valid(settings)
    treated = _encoder(model, encoder, settings)
    identity: list[Any] = [settings, counts, seed]
    if treated is not None:
        identity.append([[list(parameter.shape) for parameter in layer] for layer in treated.layers()])
    where = select_device(device, "device")
    with reproducibly(seed, where):
        passes = Whole(
            model,
            Data(Loader(_Maker(splits, seed), workers, ahead=False), counts["train"], counts.get("validation", 0)),
            FunctionObjective(loss, metrics),
            _as_they_are,
            settings,
            seed=seed,
            device=where,
            progress=progress or Silent(),
            encoder=treated,
        )
        training = Training(passes)
        if resume is not None:
            resume.mkdir(parents=True, exist_ok=True)
        trained = training.run(resume, json.dumps(identity, sort_keys=True))
    load_state(model, trained.weights)
    return Fitted(model.eval(), trained.lines, trained.kept_epoch)


def _require_valid(settings: LoopSettings) -> None:
    """Raise a ModelError for the first setting that is out of its range."""
    epochs = settings["epochs"]
    ranges = (
        ("accumulate", settings.get("accumulate", 1) >= 1, "at least 1"),
        ("warmup_epochs", 0 <= settings.get("warmup_epochs", 0) < epochs, f"from 0 to less than epochs = {epochs}"),
        ("clip_norm", settings.get("clip_norm", 1) > 0, "more than 0"),
        ("ema", 0 < settings.get("ema", 0.5) < 1, "between 0 and 1"),
        ("freeze", 0 <= settings.get("freeze", 0) <= epochs, f"from 0 to epochs = {epochs}"),
        ("encoder_lr", settings.get("encoder_lr", 1) > 0, "more than 0"),
        ("layer_decay", 0 < settings.get("layer_decay", 1) <= 1, "more than 0 and at most 1"),
    )
    for name, valid, expected in ranges:
        if not valid:
            raise ModelError(f"fit: {name}: expected {expected}, found {settings[name]}")  # type: ignore[literal-required]


def _encoder(model: nn.Module, encoder: nn.Module | None, settings: LayerSettings) -> Encoder | None:
    """Return the encoder of a model if the settings treat it in a way of its own."""
    if not of_encoder(settings):
        if encoder is not None:
            raise ModelError("fit: encoder has no effect without freeze, encoder_lr or layer_decay")
        return None
    if encoder is None:
        encoder = find_encoder(model)
    if encoder is None:
        raise ModelError(
            f"fit: freeze, encoder_lr and layer_decay need to know the encoder: {type(model).__name__} has no module "
            f"named {' or '.join(ENCODERS)}; name one, for example encoder=model.stem"
        )
    if all(encoder is not part for part in model.modules()):
        raise ModelError(f"fit: encoder: {type(encoder).__name__} is no module of the model")
    return of_module(encoder)


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
        return Batch(images, None, dict(targets) if isinstance(targets, Mapping) else {TARGET: targets})
