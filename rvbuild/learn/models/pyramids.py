"""Encoders: feature maps of timm's and torchvision's networks at strides of 2, 4, 8, 16 and 32 pixels.

Networks differ in what they give, and decoders expect all of it. A level that a network lacks is made of the nearest:

* Finer than all of its maps: the image itself, averaged.
* Networks with one stride, such as vision transformers: four maps from a quarter, half, three quarters and the whole of
  their depth are resized to strides of 4, 8, 16 and 32 pixels (Li et al., "Exploring Plain Vision Transformer
  Backbones", 2022, with interpolation in the place of learnt layers).
* All else: the map with the nearest stride, resized.

A network for images of certain sides is created for the side of chips. Where it has one side only, or patches that
do not divide the side, the image is resized for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.models import timm_networks
from rvbuild.learn.models.bands import Bands
from rvbuild.learn.models.earth import olmoearth
from rvbuild.learn.models.first_conv import adapt_bands
from rvbuild.project.networks import TIMM, TORCHVISION
from rvbuild.project.networks import olmoearth as olmoearth_names
from rvbuild.project.networks.timm import find

STRIDES = (2, 4, 8, 16, 32)

_PLAIN_STRIDES = (4, 8, 16, 32)
"""The levels that the maps of a network with one stride become."""

_IMAGE = -1


class Pyramid(nn.Module):
    """Maps `(N, bands, H, W)` to the image and its features at `STRIDES`.

    Parameters
    ----------
    model
        Gives a list of maps.
    bands
        Of the image.
    channels, strides
        Of the maps.
    channels_last
        Whether maps are `(N, H, W, C)`.
    side_px
        The side that images are resized to for the model; None: they are not.
    output_stride
        Levels of larger strides are given at this one.
    multiple
        What H and W are multiples of.
    """

    def __init__(
        self,
        model: nn.Module,
        bands: int,
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        channels_last: bool = False,
        side_px: int | None = None,
        output_stride: int = 32,
        multiple: int = STRIDES[-1],
    ) -> None:
        super().__init__()
        self.model = model
        self._channels_last = channels_last
        self._side_px = side_px
        self.multiple = multiple
        self._levels = [(min(stride, output_stride), _source(stride, strides)) for stride in STRIDES]
        self.out_channels = [bands, *(bands if map_ == _IMAGE else channels[map_] for _, map_ in self._levels)]
        self.output_stride = output_stride

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the image and its features, from fine to coarse."""
        height, width = images.shape[-2:]
        side = self._side_px
        fitting = images if side is None or side == height == width else _resized(images, side, side)
        maps = list(self.model(fitting))
        if self._channels_last:
            maps = [one.permute(0, 3, 1, 2).contiguous() for one in maps]
        levels = [images]
        for stride, number in self._levels:
            if number == _IMAGE:
                levels.append(functional.avg_pool2d(images, stride))
            else:
                levels.append(_resized(maps[number], height // stride, width // stride))
        return levels

    def give(self, depth: int) -> None:
        """Give only so many levels below the image."""
        self._levels = self._levels[:depth]
        self.out_channels = self.out_channels[: depth + 1]
        self.output_stride = min(self.output_stride, STRIDES[depth - 1])

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Do nothing: it is made for its bands. segmentation-models-pytorch calls it."""

    def make_dilated(self, output_stride: int) -> None:
        """Do nothing: it is made for its output stride. segmentation-models-pytorch calls it."""


def make_pyramid(
    name: str,
    *,
    bands: int,
    chip_px: int | None,
    output_stride: int,
    pretrained: bool | Path,
    note: Callable[[str], None],
    depth: int = len(STRIDES),
) -> Pyramid:
    """Make an encoder.

    Parameters
    ----------
    name
        `timm/NAME`, `torchvision/NAME` or `olmoearth/NAME`.
    bands, chip_px
        Of the imagery; the side of chips only matters to networks that are made for one.
    output_stride
        See `Pyramid`.
    pretrained, note
        As for `rvbuild.learn.models.build`.
    depth
        How many levels below the image are used: layers that only others need are left out.

    Raises
    ------
    ModelError
        timm is not installed, or the weights cannot be used.
    """
    if name.startswith(TIMM):
        return _of_timm(name, bands, chip_px, output_stride, pretrained, note, depth)
    if name.startswith(olmoearth_names.PREFIX):
        model, channels, stride = olmoearth.make(name, bands, chip_px, pretrained, note)
        return Pyramid(model, bands, [channels], [stride], output_stride=output_stride)
    return _of_torchvision(name.removeprefix(TORCHVISION), bands, output_stride, pretrained, note, depth)


def _of_timm(
    name: str,
    bands: int,
    chip_px: int | None,
    output_stride: int,
    pretrained: bool | Path,
    note: Callable[[str], None],
    depth: int,
) -> Pyramid:
    multiple = STRIDES[-1]
    options: dict[str, Any] = {"features_only": True}
    if indices := timm_networks.quarters(name):
        options["out_indices"] = indices
    elif depth < len(STRIDES):
        options["out_indices"] = tuple(range(_maps(find(name).strides, depth)))
        multiple = STRIDES[depth - 1]
    padded = None if chip_px is None else multiple * -(-chip_px // multiple)
    made, side = timm_networks.make(name, padded, bands, options, pretrained, note)
    model: Any = made
    return Pyramid(
        model,
        bands,
        model.feature_info.channels(),
        model.feature_info.reduction(),
        channels_last=str(getattr(model, "output_fmt", "")).endswith("NHWC"),
        side_px=side,
        output_stride=output_stride,
        multiple=multiple,
    )


def _of_torchvision(
    name: str, bands: int, output_stride: int, pretrained: bool | Path, note: Callable[[str], None], depth: int
) -> Pyramid:
    from rvbuild.learn.models import torchvision_classification as classifiers

    if pretrained is False:
        net = classifiers.bare(name)
        adapt_bands(net, bands, trained=False)
    else:
        net = classifiers.bare(name, pretrained, note, any_bands=isinstance(bands, Bands))
        adapt_bands(net, bands, trained=True)
    model = Layers(net)
    if depth < len(STRIDES):
        model.keep(_maps(model.strides, depth))
    return Pyramid(
        model, bands, model.channels, model.strides, output_stride=output_stride, multiple=STRIDES[depth - 1]
    )


class Layers(nn.Module):
    """A network of layers that are applied one after the other; gives the last result at each stride.

    Parameters
    ----------
    net
        A classification network of torchvision, whose head is left out.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        names = layer_names(net)
        for child in [name for name, _ in net.named_children() if name not in {n.partition(".")[0] for n in names}]:
            delattr(net, child)
        self.net = net
        self._names = names
        self._taken, self.strides, self.channels = self._find()

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps `(N, C, H, W)`, from fine to coarse."""
        maps, values = [], images
        for name in self._names[: self._taken[-1] + 1]:
            values = self.net.get_submodule(name)(values)
            if self._names.index(name) in self._taken:
                maps.append(values)
        return maps

    def keep(self, count: int) -> None:
        """Give only the first maps, and leave out the layers after them."""
        self._taken, self.strides, self.channels = self._taken[:count], self.strides[:count], self.channels[:count]
        for name in self._names[self._taken[-1] + 1 :]:
            parent, _, own = name.rpartition(".")
            delattr(self.net.get_submodule(parent), own)
        self._names = self._names[: self._taken[-1] + 1]

    def _find(self) -> tuple[list[int], list[int], list[int]]:
        """Return the layers whose results are taken, their strides and their channels."""
        first = next(self.net.parameters())
        values, side = torch.zeros(1, first.shape[1], 64, 64, device=first.device), 64
        found: dict[int, tuple[int, int]] = {}
        modes = self.net.training
        self.net.eval()
        with torch.no_grad():
            for number, name in enumerate(self._names):
                values = self.net.get_submodule(name)(values)
                found[side // values.shape[-1]] = number, values.shape[1]
        self.net.train(modes)
        strides = [stride for stride in sorted(found) if stride > 1]
        return [found[s][0] for s in strides], strides, [found[s][1] for s in strides]


def layer_names(net: nn.Module) -> list[str]:
    """Return the names of the layers of a classification network of torchvision, in the order of their application.

    Raises
    ------
    ModelError
        The network is not made of layers one after the other.
    """
    features = getattr(net, "features", None)
    if isinstance(features, nn.Sequential):
        return [f"features.{name}" for name, _ in features.named_children()]
    names = [name for name, _ in net.named_children()]
    if "layer4" in names:
        return names[: names.index("layer4") + 1]
    raise ModelError(f"{type(net).__name__} is not made of layers one after the other")


def _source(stride: int, strides: Sequence[int]) -> int:
    """Return the number of the map that becomes the level of a stride, or `_IMAGE`."""
    if len(strides) == len(_PLAIN_STRIDES) and len(set(strides)) == 1:
        return _PLAIN_STRIDES.index(stride) if stride in _PLAIN_STRIDES else _IMAGE
    if stride < min(strides) / math.sqrt(2):
        return _IMAGE
    # The last of those that are equally near: the deepest.
    return min(reversed(range(len(strides))), key=lambda number: abs(math.log2(strides[number] / stride)))


def _maps(strides: Sequence[int], depth: int) -> int:
    """Return how many of the maps, from the first, so many levels are made of."""
    return 1 + max(_source(stride, strides) for stride in STRIDES[:depth])


def _resized(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if tuple(maps.shape[-2:]) == (height, width):
        return maps
    return functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
