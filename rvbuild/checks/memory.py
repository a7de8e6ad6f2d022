"""The memory that a model takes, measured on one small chip: the job of a worker that has torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from rvbuild.learn import models
from rvbuild.learn.batchnorm import allow_single_values
from rvbuild.learn.device import kept_random_state, select_device
from rvbuild.project.tasks import SPECS

SIDE_PX = 128
"""Of the chip, unless chips are smaller. What a convolution holds grows with the area."""


def measure(
    task: str, model: str, args: Mapping[str, Any], bands: int, outputs: int, chip_px: int, device: str
) -> dict[str, int] | None:
    """Return the bytes that a model takes; None if that is not known, or not the machine's memory.

    Parameters
    ----------
    task, model, args, bands, outputs
        As for `rvbuild.learn.models.build`. Models of the user's own are not run.
    chip_px
        The side of a chip.
    device
        `train.device`.

    Returns
    -------
    dict
        `weights`: of all parameters. `train`: for each chip of a batch, what is kept of it for the gradients.
        `predict`: for each chip of a batch, what is held of it at once when it is predicted.
    """
    try:
        if ":" in model or select_device(device, "train.device").type != "cpu":
            return None
        with kept_random_state():
            made = models.build(task, model, bands=bands, outputs=outputs, args=args)
            return _measure(made, task, bands, chip_px)
    except Exception:  # whatever a model cannot do is of the stage to say
        return None


def _measure(model: nn.Module, task: str, bands: int, chip_px: int) -> dict[str, int]:
    side = min(SIDE_PX, chip_px)
    scale = (chip_px / side) ** 2
    allow_single_values(model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    images = torch.rand((1, bands, side, side))
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model.train(), images, task)  # held, so that what it keeps has addresses of its own
    del loss
    largest = _largest(model.eval(), images)
    train = sum(saved.values()) + largest
    return {"weights": weights, "train": round(train * scale), "predict": round(2 * largest * scale)}


def _largest(model: nn.Module, images: torch.Tensor) -> int:
    """Return the bytes of what goes into and comes out of a layer, of the one with most."""
    found = [0]

    def note(_: nn.Module, given: Any, made: Any) -> None:
        found.append(
            sum(t.numel() * t.element_size() for t in tree_leaves((given, made)) if isinstance(t, torch.Tensor))
        )

    handles = [one.register_forward_hook(note) for one in model.modules() if not list(one.children())]
    with torch.inference_mode():
        model(images)
    for handle in handles:
        handle.remove()
    return max(found)


def loss_of(model: nn.Module, images: torch.Tensor, task: str) -> torch.Tensor:
    """Return a scalar that all of the model goes into."""
    if SPECS[task].models_have_losses:
        target = {"boxes": torch.tensor([[1.0, 1.0, 20.0, 20.0]]), "labels": torch.ones(1, dtype=torch.int64)}
        losses: Mapping[str, torch.Tensor] = model(images, [target])
        return torch.stack([value.sum() for value in losses.values()]).sum()
    total = torch.zeros(())
    for scores in tree_leaves(model(images)):
        if scores.dim() == 4 and scores.shape[-2:] != images.shape[-2:]:
            scores = functional.interpolate(scores, size=images.shape[-2:], mode="bilinear", align_corners=False)
        total = total + functional.log_softmax(scores, dim=1).sum()
    return total
