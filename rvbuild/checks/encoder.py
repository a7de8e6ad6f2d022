"""The check of the encoder of drafts before work: it is opened in a worker with torch, as for features."""

from __future__ import annotations

from pathlib import Path

from rvbuild.errors import RvbuildError
from rvbuild.learn.encoders.encoder import EncoderSettings
from rvbuild.learn.encoders.open import TIMM, open_encoder


def try_out(encoder: EncoderSettings, weights: str | None, bands: int) -> str:
    """Return why an encoder cannot be used; empty if it can. Nothing is downloaded.

    Parameters
    ----------
    encoder
        Which one.
    weights
        The path of its weights; None for those that are downloaded: then only its name is checked.
    bands
        How many bands images have; 0 if unknown.
    """
    name = encoder["encoder"]
    try:
        if weights is not None:
            open_encoder(encoder, Path(weights), bands or 3, lambda line: None)
        elif name.startswith(TIMM):
            from rvbuild.learn.encoders.timm_features import require_timm

            require_timm(name.removeprefix(TIMM))
    except RvbuildError as error:
        return str(error)
    return ""
