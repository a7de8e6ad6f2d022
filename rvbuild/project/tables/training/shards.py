"""The parts into which the batches of a training are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rvbuild.project.tasks.augmentations import MIXING
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Finding


def check_shards(shards: int, batch_size: int, augment: Sequence[str]) -> Iterator[Finding]:
    """Find more shards than a batch has chips, and shards of one chip where chips of a shard are mixed.

    Parameters
    ----------
    shards, batch_size, augment
        The keys of `[train]`.
    """
    if shards > batch_size:
        yield Finding(
            ("shards",),
            f"{shards} shards of a batch of {batch_size} chips; each needs at least one, so lower shards or raise "
            "batch_size",
            (("batch_size",),),
        )
    elif shards > 1 and batch_size // shards < 2 and (mixing := [name for name in augment if name in MIXING]):
        yield Finding(
            ("shards",),
            f"{show(mixing[0])} mixes the chips of a shard, and {shards} shards of a batch of {batch_size} chips have "
            "single ones",
            (("batch_size",), ("augment",)),
        )
