"""Adapts the first convolution of a network for three bands to any number of bands."""

from __future__ import annotations

import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.models.bands import taken


def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the first 2D convolution of `model` and its dotted name."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    raise ModelError(f"{type(model).__name__} has no 2D convolution that could be adapted to other bands")


def adapt_bands(model: nn.Module, bands: int, *, trained: bool) -> None:
    """Make the first convolution of `model` take `bands` bands, in place.

    Raster Vision's rules. With trained weights and more bands, the further bands get a convolution of their own with
    new weights, and its result is added; that sum is one convolution with both kernels side by side, and is stored as
    such. With fewer bands, the first kernels are kept. Without trained weights the convolution is new. Bands with names
    get the kernels of the bands of these names.

    Parameters
    ----------
    model
        Takes some number of bands, usually 3.
    bands
        The number of bands wanted; `rvbuild.learn.models.bands.Bands` if their names are known.
    trained
        Whether the first convolution holds trained weights that should be kept.
    """
    name, old = first_conv(model)
    kept = taken(bands, old.in_channels) if trained else {}
    if old.in_channels == bands and all(place == source for place, source in kept.items()) and len(kept) in (0, bands):
        return
    new = _conv_like(old, bands)
    if trained:
        further = [place for place in range(bands) if place not in kept]
        with torch.no_grad():
            if further:
                # Weights of the extra bands as in a convolution of these alone: their scale depends on its fan-in.
                new.weight[:, further] = _conv_like(old, len(further)).weight
            new.weight[:, [*kept]] = old.weight[:, [*kept.values()]]
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _conv_like(conv: nn.Conv2d, bands: int) -> nn.Conv2d:
    new = nn.Conv2d(int(bands), conv.out_channels, 1, bias=conv.bias is not None, padding_mode=conv.padding_mode)
    new.kernel_size, new.stride, new.padding, new.dilation = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    new.weight = nn.Parameter(conv.weight.new_empty((conv.out_channels, bands, *conv.kernel_size)))
    new.reset_parameters()
    return new
