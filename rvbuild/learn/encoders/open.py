"""Encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rvbuild.learn.encoders.encoder import Encoder, EncoderSettings, Quantized
from rvbuild.learn.encoders.random_filters import RandomFilters
from rvbuild.learn.encoders.smoothing import Smoothed

RANDOM = "random"


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
    encoder: Encoder
    if settings["encoder"] == RANDOM:
        encoder = RandomFilters(bands, settings["stride_px"])
    else:
        from rvbuild.learn.encoders.backbones import Backbone  # torch: the random encoder does without

        encoder = Backbone(settings["encoder"], weights, bands, settings.get("bands"), settings["stride_px"], note)
    return Quantized(Smoothed(encoder, settings["stride_px"]), bands)
