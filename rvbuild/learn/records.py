"""What a training writes as JSON, and reads: the log, and the index of chips. Plain dicts, described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypeAlias

from typing_extensions import TypedDict

Score: TypeAlias = float | None
Scores: TypeAlias = Mapping[str, Score | Mapping[str, Score]]
"""Metrics by name: a number, or one for each class; None where it is not known."""


class Epoch(TypedDict):
    """A line of `log.jsonl`."""

    epoch: int
    """From 1."""
    lr: float
    """Of the last step."""
    train_loss: float
    val_loss: float | None
    metrics: Scores | None
    train_losses: NotRequired[dict[str, float]]
    """The parts of the loss, if it has some."""
    val_losses: NotRequired[dict[str, float]]


class ShardEntry(TypedDict):
    """A pair of files of chips."""

    images: str
    labels: str
    count: int


class ChipIndex(TypedDict):
    """The content of a scene's `index.json`, as `rvbuild.learn.chips.index` checks it."""

    scene: str
    size_px: int
    dtype: str
    bands: int
    classes: list[str]
    count: int
    shards: list[ShardEntry]
    class_counts: list[int]
    chip_class_counts: NotRequired[list[list[int]]]
