"""The training loop: epochs of batches, validation, choice of the best epoch, and continuation after a kill."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn import resume as snapshots
from rvbuild.learn import selection
from rvbuild.learn.curves import FIGURES, by_class, mean_of, shown_figure
from rvbuild.learn.logs.epochs import EpochLog
from rvbuild.learn.models.pretrained.weights import State, load_state
from rvbuild.learn.passes.base import Passes
from rvbuild.learn.selection import Epoch


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
    passes
        Over its chips. If several processes share them, each has a training of its own, and all of them the same model
        and log; the first one writes files.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes, self._first = passes, passes.group.first
        self._data, self._train, self._progress = passes.data, passes.train, passes.progress
        self._best: State | None = None
        self._lines: list[Epoch] = []
        self._keep: Path | None = None
        self._kept: dict[str, str] = {}

    @property
    def model(self) -> nn.Module:
        """The model, on its device."""
        return self._passes.model

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
            if resume is not None and self._first:
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
        with self._passes.evaluated(len(self._lines)):
            return Trained(_copy(self.model.state_dict()), self._lines, len(self._lines), [*self._kept])

    def _epoch(self, epoch: int, epochs: int) -> Epoch:
        learnt = self._passes.learn(epoch)
        line: Epoch = {
            "epoch": epoch,
            "lr": learnt.rate,
            "train_loss": learnt.loss,
            "val_loss": None,
            "metrics": None,
        }
        if learnt.parts:
            line["train_losses"] = learnt.parts
        self._require_finite("training", line["train_loss"], epoch)
        if self._data.validation_count:
            with self._passes.evaluated(epoch):
                self._progress.start(f"validation {epoch}/{epochs}", self._data.validation_count, "chips")
                validated = self._passes.validate()
                line["val_loss"], line["metrics"] = validated.loss, validated.metrics
                # The last step of an epoch can be the one that diverges.
                self._require_finite("validation", line["val_loss"], epoch)
                if validated.parts:
                    line["val_losses"] = validated.parts
                if self._best is None or selection.improves(line, self._lines, self._metric):
                    self._best = _copy(self.model.state_dict())
                self._keep_epoch(epoch)
        elif self._keep is not None:
            with self._passes.evaluated(epoch):
                self._keep_epoch(epoch)
        return line

    def _keep_epoch(self, epoch: int) -> None:
        """Write the model as if the training ended now, if the models of all epochs are kept."""
        if self._keep is not None and self._first:
            name, digest = snapshots.save_epoch(self._keep, epoch, _copy(self.model.state_dict()))
            self._kept[name] = digest

    def _require_finite(self, what: str, loss: float | None, epoch: int) -> None:
        if loss is not None and not math.isfinite(loss):
            raise ModelError(
                f"the {what} loss is {loss} in epoch {epoch}: the weights have diverged; lower train.lr (it is "
                f"{self._train['lr']})"
            )

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
            optimizer=self._passes.steps.state(),
            scaler=self._passes.scaler.state_dict(),
            best=self._best,
            lines=self._lines,
            epochs=self._kept,
            average=None if self._passes.steps.average is None else self._passes.steps.average.state(),
        )

    def _restore(self, folder: Path, identity: str) -> None:
        # Only the machine of the first process may have it.
        own = snapshots.load(folder, identity, self._progress.note) if self._first else None
        snapshot = self._passes.group.shared(own)
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
        self._passes.steps.restore(snapshot.optimizer, snapshot.average, snapshot.epoch)
        if snapshot.scaler:  # there is none of an epoch that another device computed without float16
            self._passes.scaler.load_state_dict(dict(snapshot.scaler))
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
