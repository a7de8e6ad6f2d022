"""What torchvision's detectors have in another way here: input, pooling and precision."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign


class AsItIs(nn.Module):
    """Replaces torchvision's transform: chips come in their size and normalised.

    Parameters
    ----------
    multiple
        Chips are padded below and to the right to sides that are multiples of it.
    """

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self._multiple = multiple

    def forward(self, images: Any, targets: Any = None) -> tuple[ImageList, Any]:
        """Return a batch of images (C, H, W) of one size as torchvision's list of images."""
        batch = images if isinstance(images, torch.Tensor) else torch.stack(list(images))
        return ImageList(self.padded(batch), [tuple(batch.shape[-2:])] * len(batch)), targets

    def padded(self, images: torch.Tensor) -> torch.Tensor:
        """Return a batch with the sides that the network takes."""
        height, width = images.shape[-2:]
        below, right = -height % self._multiple, -width % self._multiple
        return functional.pad(images, (0, right, 0, below), mode="replicate") if below or right else images

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Return boxes unchanged."""
        return result


class RoiPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """torchvision's pooling of proposals, on GPUs by its own kernel where the gradient need not be deterministic.

    Among deterministic algorithms torchvision compiles another, whose gradient is: for nothing in prediction, and
    impossible without a C compiler.
    """

    def forward(self, features: Mapping[str, torch.Tensor], *where: Any) -> torch.Tensor:
        """Return the features of all proposals, (n, channels, px, px)."""
        compiler = any(map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang")))
        own = not _on_gpu(features) or (self.training and compiler)
        with contextlib.nullcontext() if own else _any_kernels():
            pooled: torch.Tensor = super().forward(features, *where)
        return pooled


def _on_gpu(features: Mapping[str, torch.Tensor]) -> bool:
    return any(level.is_cuda for level in features.values())


@contextlib.contextmanager
def _any_kernels() -> Iterator[None]:
    """Allow algorithms that are not deterministic for the length of a block."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def place_in_float32(model: nn.Module) -> None:
    """Let a detector reckon with anchors and boxes in float32 at least, though its layers compute in mixed precision.

    torchvision uses the dtype of the layers' outputs, and bfloat16 has steps of 2 pixels from 256 on.
    """
    for name in ("backbone", "head", "rpn.head", "roi_heads.box_predictor"):
        with contextlib.suppress(AttributeError):
            model.get_submodule(name).register_forward_hook(_as_float32)


def _as_float32(layer: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.to(torch.promote_types(output.dtype, torch.float32))
    if isinstance(output, Mapping):
        return OrderedDict((key, _as_float32(layer, inputs, value)) for key, value in output.items())
    return type(output)(_as_float32(layer, inputs, value) for value in output)
