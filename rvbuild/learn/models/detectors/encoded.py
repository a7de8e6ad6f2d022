"""Faster R-CNN, RetinaNet and FCOS on any encoder: a feature pyramid over its levels of strides 4, 8, 16 and 32.

Chips of any side work: they are padded below and to the right to a multiple of 32 pixels. `model_args` are those of
the heads, and `encoder`, which `train.encoder` names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork
from torchvision.ops.poolers import LevelMapper

from rvbuild.learn.models.arguments import split_encoder
from rvbuild.learn.models.detectors.heads import HEADS, LAYERS, fpn_channels
from rvbuild.learn.models.detectors.parts import AsItIs, place_in_float32
from rvbuild.learn.models.pretrained.weights import load_local, read_weights
from rvbuild.learn.models.pyramids import STRIDES, Pyramid, make_pyramid
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.project.tasks.detection import DECODERS
from rvbuild.settings.train import Arguments

NAMES = tuple(DECODERS)

_WHOLE = "backbone."
"""How names of tensors of a whole detector begin, those of its encoder."""


class EncoderPyramid(nn.Module):
    """Maps `(N, bands, H, W)` to levels of equally many channels; H and W are multiples of 32.

    Parameters
    ----------
    encoder
        Gives the image and its features at all strides.
    stages
        Which strides: 1 is 4 pixels, 2 is 8, 3 is 16 and 4 is 32.
    channels
        Of the levels.
    extra
        Makes further, coarser levels.
    """

    def __init__(self, encoder: Pyramid, stages: Sequence[int], channels: int, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body = encoder
        # The encoder's first result is the image, its second has a stride of 2 pixels.
        self._places = [stage + 1 for stage in stages]
        self.fpn = FeaturePyramidNetwork([encoder.out_channels[place] for place in self._places], channels, extra)
        self.out_channels = channels

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the levels, from fine to coarse."""
        levels = self.body(images)
        features: dict[str, torch.Tensor] = self.fpn(
            OrderedDict((str(number), levels[place]) for number, place in enumerate(self._places))
        )
        return features


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
    chip_px: int | None = None,
) -> nn.Module:
    """Make a detector with an encoder; see `rvbuild.learn.models.build`.

    A weights file may hold the encoder alone, also under other names, or the whole detector.
    """
    encoder_name, head_args = split_encoder(name, args, DECODERS[name])
    state = read_weights(pretrained) if isinstance(pretrained, Path) else {}
    whole = any(key.startswith(_WHOLE) for key in state) and any(key in state for key in _weights(LAYERS))
    body = make_pyramid(
        encoder_name,
        bands=bands,
        chip_px=chip_px,
        output_stride=STRIDES[-1],
        pretrained=False if whole else pretrained,
        note=note,
    )

    def pyramid(stages: Sequence[int], extra: ExtraFPNBlock) -> nn.Module:
        return EncoderPyramid(body, stages, fpn_channels(name, args), extra)

    model = HEADS[name](name, pyramid, outputs, head_args)
    model.transform = AsItIs(STRIDES[-1])
    if isinstance(model, detection.FasterRCNN):
        _set_strides(model)
    place_in_float32(model)
    if whole and isinstance(pretrained, Path):
        load_local(model, state, pretrained, note, LAYERS)
    return model


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder, without the pyramid over it."""
    return of_module(model.get_submodule("backbone.body"))


def _weights(layers: Sequence[str]) -> list[str]:
    return [f"{layer}.weight" for layer in layers]


def _set_strides(model: detection.FasterRCNN) -> None:
    """Tell the pooling the strides of levels, which torchvision guesses from the sides of images without padding."""
    pool = model.roi_heads.box_roi_pool
    strides = STRIDES[1:]
    pool.scales = [1 / stride for stride in strides]
    first, last = strides[0].bit_length() - 1, strides[-1].bit_length() - 1
    pool.map_levels = LevelMapper(first, last, pool.canonical_scale, pool.canonical_level)
