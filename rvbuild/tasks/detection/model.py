"""The model side of object detection: the detector's own losses, and the average precision of its boxes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.ops import batched_nms

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.device import kept_random_state, seed_everything
from rvbuild.learn.hooks import PartObjective, Targets
from rvbuild.learn.selection import Scores
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.detection.candidates import Detected
from rvbuild.tasks.metrics.average_precision import Matches, average, match, precision
from rvbuild.tasks.metrics.tables import mean

CHIP_MERGE_THRESH = 0.5
"""Boxes of a class that overlap by more are one, when the boxes of a validation chip are scored."""


Chips = list[tuple[torch.Tensor, torch.Tensor]]
"""The boxes of each chip, (n, 4), and the outputs that they belong to, (n,) int64."""


class DetectionObjective:
    """Detection: the sum of the losses of a detector, and in validation also the average precision.

    Parameters
    ----------
    outputs, output_ids
        Name and class id of each output. Boxes of other classes are not targets.
    """

    def __init__(self, outputs: Sequence[str], output_ids: Sequence[int]) -> None:
        self._outputs = tuple(outputs)
        self._positions = torch.full((256,), -1, dtype=torch.int64)
        self._positions[list(output_ids)] = torch.arange(len(outputs))
        self._matches: list[list[Matches]] = [[] for _ in outputs]
        self._parts: dict[str, torch.Tensor] = {}
        self._chips = 0

    def loss(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one batch; see `rvbuild.learn.hooks.Objective`."""
        return self._loss(model, images, self._wanted(targets))

    def parts(self) -> dict[str, float]:
        """Return the mean of each loss per chip since the last call."""
        means = {name: float(value) / self._chips for name, value in self._parts.items()}
        self._parts, self._chips = {}, 0
        return means

    def validate(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one validation batch, and compare the boxes that are found with those that are wanted.

        A detector gives losses in training mode alone, so it runs twice. Whatever it draws for the losses, such as the
        proposals that Faster R-CNN learns from, it draws alike in every epoch.
        """
        chips = self._wanted(targets)
        with _gives_losses(model), kept_random_state(images.device):
            seed_everything(self._chips)
            loss = self._loss(model, images, chips)
        for chip, (boxes, outputs) in zip(detect(model, images), chips, strict=True):
            numbers = batched_nms(
                torch.from_numpy(chip.boxes),
                torch.from_numpy(chip.scores),
                torch.from_numpy(chip.outputs),
                CHIP_MERGE_THRESH,
            ).numpy()
            wanted, ids = boxes.cpu().numpy(), outputs.cpu().numpy()
            for output, matches in enumerate(self._matches):
                own = numbers[chip.outputs[numbers] == output]
                matches.append(match(chip.boxes[own], chip.scores[own], wanted[ids == output]))
        return loss

    def weight(self, targets: Targets) -> float:
        """Return the number of chips: each detector has its own way to divide its losses."""
        return float(len(targets["boxes"]))

    def counts(self) -> list[list[Matches]]:
        """Return the matches of the boxes of each output since the last call."""
        counts, self._matches = self._matches, [[] for _ in self._outputs]
        return counts

    def count(self, counts: list[list[Matches]]) -> None:
        """Add matches."""
        for own, others in zip(self._matches, counts, strict=True):
            own += others

    def scores(self) -> Scores:
        """Return the average precisions since the last call; None where no label was."""
        curves = {name: precision(matches) for name, matches in zip(self._outputs, self.counts(), strict=True)}
        half = {name: average(curve, iou=0.5) for name, curve in curves.items()}
        whole = {name: average(curve) for name, curve in curves.items()}
        return {
            "ap50": {name: _known(value) for name, value in half.items()},
            "ap": {name: _known(value) for name, value in whole.items()},
            "mean_ap50": _known(mean(half.values())),
            "mean_ap": _known(mean(whole.values())),
        }

    def _loss(self, model: nn.Module, images: torch.Tensor, chips: Chips) -> torch.Tensor:
        """Return the sum of the losses of one batch, and count each."""
        first = first_label(model)
        losses = _call(model, images, [{"boxes": boxes, "labels": outputs + first} for boxes, outputs in chips])
        right = isinstance(losses, Mapping) and losses and all(isinstance(v, torch.Tensor) for v in losses.values())
        if not right:
            raise ModelError(
                "train.model: expected the model in training to return a dict of losses, as torchvision's detectors "
                f"do; found {losses!r:.200}"
            )
        for name, value in losses.items():
            part = value.detach().double().reshape(()) * len(images)
            self._parts[str(name)] = self._parts.get(str(name), torch.zeros_like(part)) + part
        self._chips += len(images)
        return torch.stack([value.reshape(()) for value in losses.values()]).sum()

    def _wanted(self, targets: Targets) -> Chips:
        """Return the boxes of each chip and the outputs that they belong to."""
        result = []
        for boxes, classes in zip(targets["boxes"], targets["classes"], strict=True):
            self._positions = self._positions.to(classes.device)
            outputs = self._positions[classes.int()]
            result.append((boxes[outputs >= 0], outputs[outputs >= 0]))
        return result


def objective(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> PartObjective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    if not class_counts[list(output_ids)].any():
        raise DataError(
            f"no training chip has a box of one of the classes {', '.join(outputs)}, so there is nothing to learn "
            "from; check the contact sheets of the chips, and the settings of the labels"
        )
    return DetectionObjective(outputs, output_ids)


@contextlib.contextmanager
def _gives_losses(model: nn.Module) -> Iterator[None]:
    """Put a detector in eval mode into training mode for the length of a block, but not its layers.

    Modules without parts stay as they are: batch normalisations keep their statistics, and dropout drops nothing.
    """
    changed = [module for module in model.modules() if module is model or any(True for _ in module.children())]
    modes = [module.training for module in changed]
    for module in changed:
        module.training = True
    try:
        yield
    finally:
        for module, mode in zip(changed, modes, strict=True):
            module.training = mode


def first_label(model: nn.Module) -> int:
    """Return the label of the first class: that of the built-in models, or 1, as torchvision counts them."""
    return int(getattr(model, "first_label", 1))


def detect(model: nn.Module, images: torch.Tensor) -> list[Detected]:
    """Return the boxes that a detector in eval mode finds in each of the images (N, C, H, W)."""
    with torch.inference_mode():
        results = _call(model, images, None)
    keys = ("boxes", "scores", "labels")
    if not isinstance(results, list) or len(results) != len(images) or not all(set(keys) <= set(r) for r in results):
        raise ModelError(
            "train.model: expected the model in eval mode to return a list with a dict of boxes, scores and labels for "
            f"each image, as torchvision's detectors do; found {results!r:.200}"
        )
    first = first_label(model)
    by_image = []
    for result in results:
        boxes, scores, labels = (result[key].detach().cpu() for key in keys)
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
            raise ModelError(
                f"train.model: expected boxes (n, 4), scores (n,) and labels (n,), found {tuple(boxes.shape)}, "
                f"{tuple(scores.shape)} and {tuple(labels.shape)}"
            )
        by_image.append(Detected(boxes.float().numpy(), scores.float().numpy(), labels.long().numpy() - first))
    return by_image


def _call(model: nn.Module, images: torch.Tensor, targets: Any) -> Any:
    """Run a detector, which takes a list of images; raises ModelError if the detector rejects the images."""
    try:
        return model(list(images)) if targets is None else model(list(images), targets)
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise
        raise ModelError(
            f"train.model: the model cannot work on chips of {images.shape[-2]} x {images.shape[-1]} px with "
            f"{images.shape[1]} bands: {error}"
        ) from error


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
