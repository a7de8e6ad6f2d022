"""Encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.learn.encoders.encoder import Encoder, EncoderSettings, Quantized
from rvbuild.learn.encoders.random_filters import RandomFilters
from rvbuild.learn.encoders.smoothing import Smoothed

if TYPE_CHECKING:
    from rvbuild.learn.encoders.network import Network

RANDOM, TIMM = "random", "timm/"


def open_encoder(settings: EncoderSettings, weights: Path | None, bands: int, note: Callable[[str], None]) -> Quantized:
    """Return an encoder whose features are integers.

    Parameters
    ----------
    settings
        Which one.
    weights
        The file of its weights, if the project names one.
    bands
        How many bands images have.
    note
        Receives lines for the user.

    Raises
    ------
    ModelError
        The weights cannot be read or downloaded, or are not of the encoder.
    """
    name, stride_px = settings["encoder"], settings["stride_px"]
    encoder: Encoder
    if name == RANDOM:
        encoder = RandomFilters(bands, stride_px)
    else:
        from rvbuild.learn.encoders.backbones import Backbone  # torch: the random encoder does without

        encoder = Backbone(name, _network(name, weights, note), bands, settings.get("bands"), stride_px)
    return Quantized(Smoothed(encoder, stride_px), bands)


def _network(name: str, weights: Path | None, note: Callable[[str], None]) -> Network:
    if name.startswith(TIMM):
        from rvbuild.learn.encoders.timm_features import TimmFeatures

        return TimmFeatures(name.removeprefix(TIMM), weights, note)
    from rvbuild.learn.encoders.torchvision_layers import TorchvisionLayers

    return TorchvisionLayers(name, weights, note)
