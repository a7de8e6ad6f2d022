"""Segmentation models of an encoder and a decoder: decoders of segmentation-models-pytorch, encoders by name.

`model_args`: those of the decoder, with their names in segmentation-models-pytorch, and `encoder`, which
`train.encoder` names. Any side works: images are padded to a multiple of 32 pixels, or less, and results are cropped.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.models.arguments import split_encoder, whole_number
from rvbuild.learn.models.pretrained.weights import load_local, read_weights
from rvbuild.learn.models.pyramids import STRIDES, Pyramid, make_pyramid
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.project.networks import EXTRA
from rvbuild.project.tasks.segmentation import DECODERS
from rvbuild.settings.train import Arguments

NAMES = tuple(DECODERS)

_OUTPUT_STRIDES = {"deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}
"""Of the decoders that want a finer last level."""

_LEVELS = {"pspnet": 3}
"""Of the decoders that look at fewer levels than the encoder has."""

_LEAST_DEPTH = 3
"""As in segmentation-models-pytorch."""

_WHOLE = "segmentation_head."
"""How names of tensors begin that only a whole model has: foundation models have encoders and decoders of their own."""


class EncoderDecoder(nn.Module):
    """Maps `(N, bands, H, W)` to `(N, outputs, H, W)` logits.

    Parameters
    ----------
    network
        A model of segmentation-models-pytorch, whose parts are taken over with their names.
    multiple
        Sides that it takes are multiples of it.
    """

    def __init__(self, network: Any, multiple: int) -> None:
        super().__init__()
        self._multiple = multiple
        self.encoder = network.encoder
        self.decoder = network.decoder
        self.segmentation_head = network.segmentation_head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`."""
        height, width = images.shape[-2:]
        below, right = -height % self._multiple, -width % self._multiple
        if below or right:
            images = functional.pad(images, (0, right, 0, below), mode="replicate")
        logits: torch.Tensor = self.segmentation_head(self.decoder(self.encoder(images)))
        return logits[..., :height, :width]


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
    """Make a model of an encoder and a decoder; see `rvbuild.learn.models.build`.

    A weights file may hold the encoder alone, also under other names, or the whole model.
    """
    encoder_name, decoder_args = split_encoder(name, args, DECODERS[name])
    state = read_weights(pretrained) if isinstance(pretrained, Path) else {}
    whole = any(key.startswith(_WHOLE) for key in state)
    smp = _require(name)
    depth = _depth(name, decoder_args)
    pyramid = make_pyramid(
        encoder_name,
        bands=bands,
        chip_px=chip_px,
        output_stride=_OUTPUT_STRIDES.get(name, STRIDES[-1]),
        depth=depth,
        pretrained=False if whole else pretrained,
        note=note,
    )
    pyramid.give(_LEVELS.get(name, depth))
    with _registered(smp, pyramid) as registered:
        make = smp.MODEL_ARCHITECTURES_MAPPING[name]
        try:
            network = make(registered, encoder_weights=None, in_channels=bands, classes=outputs, **decoder_args)
        except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
            given = ", ".join(f"{key} = {value!r}" for key, value in decoder_args.items())
            raise ModelError(
                f'train.model_args: "{name}" cannot be made with {given or encoder_name}: {error}'
            ) from error
    model = EncoderDecoder(network, pyramid.multiple)
    if whole and isinstance(pretrained, Path):
        load_local(model, state, pretrained, note, heads=("segmentation_head.0",))
    return model


def _depth(name: str, args: Arguments) -> int:
    """Return the number of levels that the encoder has."""
    return whole_number(name, args, "encoder_depth", len(STRIDES), _LEAST_DEPTH, len(STRIDES))


def _require(name: str) -> Any:
    """Return the package segmentation_models_pytorch, or raise a ModelError with the way to install it."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ModelError(
            f'"{name}" with an encoder needs the package segmentation-models-pytorch; install it with: '
            f"pip install '{EXTRA}'"
        ) from error
    return smp


@contextlib.contextmanager
def _registered(smp: Any, pyramid: Pyramid) -> Iterator[str]:
    """Register an encoder for the length of a block under a name of its own, as the package provides for."""
    name = f"rvbuild-{uuid.uuid4().hex}"

    def make(**_: Any) -> Pyramid:
        return pyramid

    smp.encoders.encoders[name] = {"encoder": make, "params": {}, "pretrained_settings": {}}
    try:
        yield name
    finally:
        del smp.encoders.encoders[name]


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder."""
    return of_module(model.get_submodule("encoder"))
