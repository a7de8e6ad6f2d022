"""The settings `eval`: how predictions are compared with labels."""

from __future__ import annotations

from typing_extensions import TypedDict


class EvalSettings(TypedDict):
    """What every task has: nothing."""


class BoxEvalSettings(EvalSettings):
    """How boxes are compared."""

    iou_thresh: float
    """A box is right if it overlaps a label by more."""
