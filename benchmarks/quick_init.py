"""Random weights of large networks in a fraction of the time: a drawn block of values is repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_BLOCK = 1 << 12


@contextlib.contextmanager
def quick_init() -> Iterator[None]:
    """Let random values repeat in large tensors for the length of a block: drawing them takes most of the time."""

    def quick(draw: Any) -> Any:
        def fill(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if tensor.device.type != "cpu" or tensor.numel() <= _BLOCK or not tensor.is_contiguous():
                filled: torch.Tensor = draw(tensor, *args, **kwargs)
                return filled
            flat = tensor.view(-1)
            draw(flat[:_BLOCK], *args, **kwargs)
            whole = flat.numel() // _BLOCK * _BLOCK
            flat[_BLOCK:whole].view(-1, _BLOCK).copy_(flat[:_BLOCK])
            flat[whole:].copy_(flat[: flat.numel() - whole])
            return tensor

        return fill

    # erfinv_ is a step of the truncated normal distribution, behind uniform_.
    names = ("normal_", "uniform_", "erfinv_")
    for method in names:
        setattr(torch.Tensor, method, quick(getattr(torch.Tensor, method)))
    try:
        yield
    finally:
        for method in names:
            delattr(torch.Tensor, method)
