"""The encoder of a training: frozen at first, or learning at rates of its own."""

from __future__ import annotations

from collections.abc import Iterator

from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Finding


def check_encoder(freeze: int, epochs: int, random: bool) -> Iterator[Finding]:
    """Find a frozen encoder that learns nothing useful.

    Parameters
    ----------
    freeze, epochs
        The keys of `[train]`.
    random
        Whether the encoder starts from random weights.
    """
    if freeze > epochs:
        message = f"{show(freeze)} is more than the training has epochs: {epochs}"
        yield Finding(("freeze",), f"{message}; freeze = {epochs} never lets the encoder learn", (("epochs",),))
    if freeze and random:
        message = "an encoder with random weights would stay random; start from weights (pretrained), or remove the key"
        yield Finding(("freeze",), message, (("pretrained",), ("model",)))
