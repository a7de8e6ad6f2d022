"""Stage analyze, for a user's own chips: the statistics of the bands of all training chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.raster.stats import BandCounter
from rvbuild.learn.chips.shards import open_shard
from rvbuild.progress import Progress
from rvbuild.stages.analyze.scene import write_stats
from rvbuild.stages.analyze.settings import NoSettings


def run(inputs: Mapping[str, Sequence[Path]], settings: NoSettings, outputs: Path, progress: Progress) -> None:
    """Write `stats.json` in the same format as for a scene.

    Parameters
    ----------
    inputs
        `chips`: the shards of images of the training chips.
    settings
        Not used.

    Raises
    ------
    DataError
        A band has no valid pixel.
    """
    counters: list[BandCounter] = []
    dtype = ""
    progress.start("statistics of chips", len(inputs["chips"]), "shards")
    for path in sorted(inputs["chips"]):
        shard = open_shard(path)
        dtype = shard["images"].dtype.name
        counters = counters or [BandCounter(shard["images"].dtype) for _ in range(shard["images"].shape[1])]
        for number, image in enumerate(shard["images"]):
            valid = np.ones(image.shape, dtype=bool)
            if "valid" in shard:
                valid = np.unpackbits(shard["valid"][number], axis=-1, count=image.shape[-1]).view(bool)
            for index, counter in enumerate(counters):
                counter.add(image[index][valid[index]])
        progress.advance()
    bands = [counter.result() for counter in counters]
    for number, band in enumerate(bands):
        if not band.count:
            raise DataError(f"analyze: band {number} has no valid pixel in any training chip")
    write_stats(outputs / "stats.json", bands, dtype)
