"""The settings of `[analyze]`: how band statistics are measured."""

from __future__ import annotations

from typing_extensions import TypedDict


class SampleSettings(TypedDict):
    """The pixels that are used."""

    sample: float
    """The fraction of the blocks of a scene, chosen by the seed; 1 for all pixels."""
