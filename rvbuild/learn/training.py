"""The training loop: epochs of batches, validation, choice of the best epoch, and continuation after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn import resume as snapshots
from rvbuild.learn import selection
from rvbuild.learn.batchnorm import allow_single_values, measured
from rvbuild.learn.chips.loader import Batch, Loader, epoch_requests, plain_requests
from rvbuild.learn.curves import FIGURES, by_class, mean_of, shown_figure
from rvbuild.learn.device import amp_dtype, place, seed_everything, upload
from rvbuild.learn.hooks import Objective
from rvbuild.learn.logs.epochs import EpochLog
from rvbuild.learn.models.weights import State, load_state
from rvbuild.learn.selection import Epoch, Scores
from rvbuild.learn.steps.encoder import Encoder
from rvbuild.learn.steps.freezing import Freezing
from rvbuild.learn.steps.stepper import Place, Stepper
from rvbuild.progress import Progress
from rvbuild.settings.train import LoopSettings

MEASURED_CHIPS = 64
"""Number of training chips, without augmentation, for the statistics of batch normalisation."""


class Normalize(Protocol):
    """Turns raw batches into what the model is given, on the device; see `rvbuild.learn.normalize.Normalizer`."""

    def __call__(self, images: torch.Tensor, valid: torch.Tensor | None, device: torch.device) -> torch.Tensor:
        """Return one batch."""


@dataclass(frozen=True)
class Data:
    """The data of a training."""

    loader: Loader
    count: int
    """Training chips."""
    validation_count: int
    chances: np.ndarray | None = None
    """`(count,)` probability of each to be drawn; None: each comes once in an epoch."""


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    weights: State
    lines: list[Epoch]
    """One entry per epoch: epoch (from 1), lr of its last step, train_loss, val_loss, metrics; and train_losses and
    val_losses, if the loss has parts."""
    kept_epoch: int
    epochs: Sequence[str] = ()
    """The names of the files of the models after each epoch, if they are kept."""


class Training:
    """Trains one model.

    Parameters
    ----------
    model
        Fresh; it is moved to the device.
    data, objective, normalizer
        The source of batches, the objective, and the normalisation.
    train
        The train settings.
    seed
        Determines the order, the augmentation, and random draws of the model.
    device
        Where to compute.
    encoder
        Of the model, if the train settings treat it in a way of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        objective: Objective,
        normalizer: Normalize,
        train: LoopSettings,
        *,
        seed: int,
        device: torch.device,
        progress: Progress,
        encoder: Encoder | None = None,
    ) -> None:
        self.model = place(model, device)
        allow_single_values(self.model)
        self._data = data
        self._objective = objective
        self._normalizer = normalizer
        self._train = train
        self._seed = seed
        self._device = device
        self._progress = progress
        self._amp = amp_dtype(train["amp"], device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp == torch.float16)
        batches = len(epoch_requests(data.count, train["batch_size"], seed, 0))
        self._freezing = Freezing(encoder, train.get("freeze", 0))
        self._steps = Stepper(self.model, encoder, train, batches, self._scaler)
        self._best: State | None = None
        self._lines: list[Epoch] = []
        self._keep: Path | None = None
        self._kept: dict[str, str] = {}
        rng = np.random.default_rng([seed, 0])
        chosen = np.sort(rng.permutation(data.count)[:MEASURED_CHIPS])
        self._measure_requests = plain_requests("train", chosen.tolist(), train["batch_size"])
        self._validation_requests = plain_requests("validation", range(data.validation_count), train["batch_size"])

    def run(
        self,
        resume: Path | None = None,
        identity: str = "",
        keep: Path | None = None,
        log: EpochLog | None = None,
    ) -> Trained:
        """Train to the last epoch, or until `patience` is used up.

        Parameters
        ----------
        resume
            A directory for checkpoints, one after every epoch. If it holds one of the same identity, the training
            continues from there and ends with the same bytes as if it had never stopped.
        identity
            The identity of this training's trajectory.
        keep
            A directory for the models after each epoch, if they are kept: with `resume`, the same.
        log
            Is told of each epoch when it has ended, and at the start of those that a checkpoint has.
        """
        self._keep = keep
        if resume is not None:
            self._restore(resume, identity)
        if log is not None:
            log.begin(self._lines)
        epochs = self._train["epochs"]
        while len(self._lines) < self._last_epoch():
            epoch = len(self._lines) + 1
            try:
                line = self._epoch(epoch, epochs)
            except RuntimeError as error:
                # torch only has a separate class for CUDA.
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                    raise
                raise ModelError(
                    f"not enough memory for a batch of {self._train['batch_size']} chips; lower train.batch_size or "
                    f"chip.size_px, or choose a smaller train.model ({error})"
                ) from error
            self._lines.append(line)
            if resume is not None:
                snapshots.save(resume, self._snapshot(identity))
            if log is not None:
                log.add(line)
            self._progress.note(_summary(line, epochs))
        if len(self._lines) < epochs:
            self._progress.note(
                f"stopped after epoch {len(self._lines)}: no improvement of {self._train['select_metric']} for "
                f"{self._train['patience']} epochs"
            )
        if self._train["select"] == "best" and self._best is not None:
            return Trained(self._best, self._lines, self._best_epoch(), [*self._kept])
        with self._evaluated(len(self._lines)):
            return Trained(_copy(self.model.state_dict()), self._lines, len(self._lines), [*self._kept])

    def _epoch(self, epoch: int, epochs: int) -> Epoch:
        train_loss, rate = self._learn(epoch, epochs)
        line: Epoch = {"epoch": epoch, "lr": rate, "train_loss": train_loss, "val_loss": None, "metrics": None}
        if parts := self._objective.parts():
            line["train_losses"] = parts
        self._require_finite("training", line["train_loss"], epoch)
        if self._data.validation_count:
            with self._evaluated(epoch):
                self._progress.start(f"validation {epoch}/{epochs}", self._data.validation_count, "chips")
                line["val_loss"], line["metrics"] = self._validate()
                # The last step of an epoch can be the one that diverges.
                self._require_finite("validation", line["val_loss"], epoch)
                if parts := self._objective.parts():
                    line["val_losses"] = parts
                if self._best is None or selection.improves(line, self._lines, self._metric):
                    self._best = _copy(self.model.state_dict())
                self._keep_epoch(epoch)
        elif self._keep is not None:
            with self._evaluated(epoch):
                self._keep_epoch(epoch)
        return line

    def _keep_epoch(self, epoch: int) -> None:
        """Write the model as if the training ended now, if the models of all epochs are kept."""
        if self._keep is not None:
            name, digest = snapshots.save_epoch(self._keep, epoch, _copy(self.model.state_dict()))
            self._kept[name] = digest

    def _require_finite(self, what: str, loss: float | None, epoch: int) -> None:
        if loss is not None and not math.isfinite(loss):
            raise ModelError(
                f"the {what} loss is {loss} in epoch {epoch}: the weights have diverged; lower train.lr (it is "
                f"{self._train['lr']})"
            )

    def _learn(self, epoch: int, epochs: int) -> tuple[float, float]:
        """Return the mean loss per chip of one epoch of steps, and the last learning rate."""
        data = self._data
        requests = epoch_requests(data.count, self._train["batch_size"], self._seed, epoch, data.chances)
        self._progress.start(f"epoch {epoch}/{epochs}", sum(len(r.chips) for r in requests), "chips")
        digest = hashlib.blake2b(f"{self._seed}/{epoch}".encode(), digest_size=8)
        seed_everything(int.from_bytes(digest.digest(), "little"))
        self._freezing.train(self.model, epoch)
        total, chips, rate = torch.zeros((), dtype=torch.float64, device=self._device), 0, 0.0
        step, places = (epoch - 1) * self._steps.per_epoch, self._steps.places([len(r.chips) for r in requests])
        with contextlib.closing(self._data.loader.batches(requests)) as batches:
            for batch, at in zip(batches, places, strict=True):
                count = len(batch.images)
                total += self._gradients(batch, at) * count
                if at.last:
                    rate = self._steps.take(step)
                    step += 1
                chips += count
                self._progress.advance(count)
        return float(total) / chips, rate

    def _gradients(self, batch: Batch, at: Place) -> torch.Tensor:
        """Add the gradients of a batch to those of its step, and return its loss."""
        images, targets = self._on_device(batch)
        if at.first:
            self._steps.clear()
        with self._precision():
            loss = self._objective.loss(self.model, images, targets)
        self._steps.add(loss, at)
        return loss.detach().double()

    def _validate(self) -> tuple[float, Scores]:
        """Return the mean loss per chip and the metrics of the validation chips."""
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with torch.inference_mode():
            for batch in self._batches(self._validation_requests):
                images, targets = self._on_device(batch)
                with self._precision():
                    loss = self._objective.validate(self.model, images, targets)
                total += loss.double() * len(images)
                self._progress.advance(len(images))
        return float(total) / self._data.validation_count, self._objective.scores()

    @contextlib.contextmanager
    def _evaluated(self, epoch: int) -> Iterator[None]:
        """Put the model into the state in which it is validated and saved after an epoch, for the length of a block."""

        def forward_all() -> None:
            for batch in self._batches(self._measure_requests):
                images, _ = self._on_device(batch)
                with self._precision():
                    self.model(images)

        with self._steps.averaged(), measured(self.model, forward_all, self._freezing.kept(epoch)):
            yield

    def _batches(self, requests: Sequence[Any]) -> Iterator[Batch]:
        with contextlib.closing(self._data.loader.batches(requests)) as batches:
            yield from batches

    def _on_device(self, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        targets = {
            name: [upload(item, self._device) for item in value]
            if isinstance(value, list)
            else upload(value, self._device)
            for name, value in batch.targets.items()
        }
        return self._normalizer(batch.images, batch.valid, self._device), targets

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self._amp is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._amp)

    @property
    def _metric(self) -> str:
        return self._train["select_metric"]

    def _last_epoch(self) -> int:
        """Return the number of epochs after which this training ends, as far as the log tells."""
        return selection.last_epoch(self._lines, self._train["epochs"], self._train["patience"], self._metric)

    def _best_epoch(self) -> int:
        return selection.best_epoch(self._lines, self._metric)

    def _snapshot(self, identity: str) -> snapshots.Snapshot:
        return snapshots.Snapshot(
            identity=identity,
            epoch=len(self._lines),
            weights=self.model.state_dict(),
            optimizer=self._steps.state(),
            scaler=self._scaler.state_dict(),
            best=self._best,
            lines=self._lines,
            epochs=self._kept,
            average=None if self._steps.average is None else self._steps.average.state(),
        )

    def _restore(self, folder: Path, identity: str) -> None:
        snapshot = snapshots.load(folder, identity, self._progress.note)
        if snapshot is None:
            return
        self._lines = snapshot.lines
        if snapshot.epoch > self._last_epoch():
            self._progress.note(f"the last training reached epoch {snapshot.epoch}; a shorter one starts again")
            self._lines = []
            return
        if _shapes(self.model.state_dict()) != _shapes(snapshot.weights):
            self._progress.note("the checkpoint belongs to another model and is not used; the training starts again")
            self._lines = []
            return
        load_state(self.model, snapshot.weights)
        self._steps.restore(snapshot.optimizer, snapshot.average, snapshot.epoch)
        if snapshot.scaler:  # there is none of an epoch that another device computed without float16
            self._scaler.load_state_dict(dict(snapshot.scaler))
        self._best = snapshot.best
        self._kept = dict(snapshot.epochs)
        self._progress.note(f"continuing after epoch {snapshot.epoch}")


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _copy(state: Mapping[str, torch.Tensor]) -> State:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _summary(line: Epoch, epochs: int) -> str:
    """Return the line that tells the user how an epoch went."""
    text, metrics = f"epoch {line['epoch']}/{epochs}: loss {line['train_loss']:.4f}", line["metrics"]
    if metrics is None:
        return text
    text += f", validation {line['val_loss']:.4f}"
    figure = shown_figure(metrics)
    if not isinstance(metrics.get(figure), Mapping):  # figures of a training without classes
        return ", ".join([text, *(f"{name} {value:.3f}" for name, value in metrics.items())])
    mean = mean_of(metrics, figure)
    classes = ", ".join(f"{name} {value:.3f}" for name, value in by_class(metrics, figure).items() if value is not None)
    return text if mean is None else f"{text}, mean {FIGURES[figure]} {mean:.3f} ({classes})"
