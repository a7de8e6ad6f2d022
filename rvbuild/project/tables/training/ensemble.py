"""The networks of an ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

from pydantic import Field, Strict, Tag

from rvbuild.project.networks import LOOKS, SCALES, SIZES
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import REFERENCE, Finding, by_type

_Scale: TypeAlias = Annotated[float, Field(ge=SCALES[0], le=SCALES[1])]
_Looks: TypeAlias = Annotated[tuple[_Scale, ...], Field(min_length=1, max_length=LOOKS), Strict(False)]
_ScalesOfNetwork: TypeAlias = Annotated[
    Annotated[_Scale, Tag("<scale>")] | Annotated[_Looks, Tag("<scales>")],
    by_type({int: "<scale>", float: "<scale>", list: "<scales>", tuple: "<scales>"}, "a number or a list of numbers"),
]
Scales: TypeAlias = Annotated[tuple[_ScalesOfNetwork, ...], Strict(False)]


def as_lists(scales: Scales) -> list[float | list[float]]:
    """Return scales as the settings have them."""
    return [list(looks) if isinstance(looks, tuple) else looks for looks in scales]


def check_ensemble(scales: Scales | None, model: str, task: str, batch_size: int, shards: int) -> Iterator[Finding]:
    """Find networks that cannot be joined, and more networks than a part of a batch has chips.

    Parameters
    ----------
    scales, model, batch_size, shards
        `ensemble` and other keys of `[train]`; no scales: a single network.
    task
        The project's.
    """
    if scales is None:
        return
    if not SIZES[0] <= len(scales) <= SIZES[1]:
        yield Finding(("ensemble",), f"expected the scales of {SIZES[0]} to {SIZES[1]} networks, found {len(scales)}")
    if not SPECS[task].scores:
        yield Finding(("ensemble",), f"does not apply to {task}: boxes have no scores at each place to be averaged")
    elif REFERENCE.fullmatch(model):
        yield Finding(("ensemble",), f"has no effect with your own model {show(model)}, which can be one itself")
    if len(scales) > (chips := batch_size // shards):
        whose = "a shard" if shards > 1 else "a batch"
        yield Finding(
            ("ensemble",),
            f"{len(scales)} networks learn from different chips, and {whose} has {chips}; name fewer, or raise "
            "batch_size",
            (("batch_size",), *([("shards",)] if shards > 1 else [])),
        )
