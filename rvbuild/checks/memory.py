"""The memory that a model needs, measured on one small chip in a worker with torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from rvbuild.cores import thread_count
from rvbuild.learn import models
from rvbuild.learn.batchnorm import allow_single_values
from rvbuild.learn.device import reproducible, select_device
from rvbuild.learn.models.several.ensemble import Ensemble
from rvbuild.project.tasks import SPECS

SIDE_PX = 128
"""Side of the measured chip, unless chips are smaller. The memory of a convolution grows with the area."""


def measure(
    task: str, model: str, args: Mapping[str, Any], bands: int, outputs: int, chip_px: int, device: str
) -> dict[str, int] | None:
    """Return the bytes that a model needs; None if this is unknown, or not in the memory of the machine.

    Parameters
    ----------
    task, model, args, bands, outputs
        As for `rvbuild.learn.models.build`. Users' own models are not run.
    chip_px
        The side of a chip.
    device
        `train.device`.

    Returns
    -------
    dict
        `weights`: bytes of all parameters. `train`: bytes per chip that are kept for the gradients. `predict`: bytes
        per chip that are needed at the same time in prediction.
    """
    try:
        if ":" in model or select_device(device, "train.device").type != "cpu":
            return None
        # Hooks see the tensors of their own thread, so all networks of an ensemble compute in it.
        with reproducible(0, torch.device("cpu"), threads=1):
            network = models.build(task, model, bands=bands, outputs=outputs, args=args, chip_px=chip_px)
            return _measure(network, task, bands, chip_px)
    except Exception:  # the stage reports errors of the model
        return None


def _measure(model: nn.Module, task: str, bands: int, chip_px: int) -> dict[str, int]:
    side = min(SIDE_PX, chip_px)
    scale = (chip_px / side) ** 2
    allow_single_values(model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    count = len(model.members) if isinstance(model, Ensemble) else 1  # each learns from chips of its own
    images = torch.rand((count, bands, side, side))
    parameter_addresses = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameter_addresses:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model.train(), images, task)  # kept alive, so that addresses are not reused
    del loss
    largest = _largest(model.eval(), images[:1])
    train = sum(saved.values()) / count + largest
    predict = 2 * largest * min(count, thread_count())
    return {"weights": weights, "train": round(train * scale), "predict": round(predict * scale)}


def _largest(model: nn.Module, images: torch.Tensor) -> int:
    """Return the largest size in bytes of the inputs and outputs of a layer."""
    sizes = [0]

    def note(_: nn.Module, inputs: Any, outputs: Any) -> None:
        sizes.append(
            sum(t.numel() * t.element_size() for t in tree_leaves((inputs, outputs)) if isinstance(t, torch.Tensor))
        )

    handles = [layer.register_forward_hook(note) for layer in model.modules() if not list(layer.children())]
    with torch.inference_mode():
        model(images)
    for handle in handles:
        handle.remove()
    return max(sizes)


def loss_of(model: nn.Module, images: torch.Tensor, task: str) -> torch.Tensor:
    """Return a scalar that depends on the whole model."""
    if SPECS[task].models_have_losses:
        # One class is enough, and whether labels begin at 0 or 1 differs.
        label = int(getattr(model, "first_label", 1))
        target = {"boxes": torch.tensor([[1.0, 1.0, 20.0, 20.0]]), "labels": torch.tensor([label])}
        losses: Mapping[str, torch.Tensor] = model(images, [target])
        return torch.stack([value.sum() for value in losses.values()]).sum()
    total = torch.zeros(())
    for scores in tree_leaves(model(images)):
        if scores.dim() == 4 and scores.shape[-2:] != images.shape[-2:]:
            scores = functional.interpolate(scores, size=images.shape[-2:], mode="bilinear", align_corners=False)
        total = total + functional.log_softmax(scores, dim=1).sum()
    return total
