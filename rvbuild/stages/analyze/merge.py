"""Stage analyze, for all scenes: the statistics of the training scenes together, as of one scene."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.geo.raster.stats import BandStats, ImageFigures
from rvbuild.progress import Progress
from rvbuild.stages.analyze.scene import write_stats
from rvbuild.stages.analyze.settings import NoSettings

_ROLE = "stats/"


def run(inputs: Mapping[str, Sequence[Path]], settings: NoSettings, outputs: Path, progress: Progress) -> None:
    """Write `stats.json` in the same format as those of the scenes.

    Parameters
    ----------
    inputs
        `stats/<scene id>`: the `stats.json` of one scene.
    settings
        Not used.

    Raises
    ------
    DataError
        Scenes differ in their number of bands or dtype, or no scene has a valid pixel in some band.
    """
    scenes = {role.removeprefix(_ROLE): files[0] for role, files in sorted(inputs.items()) if role.startswith(_ROLE)}
    progress.start("merge statistics", len(scenes), "scenes")
    merged: list[BandStats] = []
    first, first_dtype = "", ""
    for scene, path in scenes.items():
        figures: ImageFigures = json.loads(path.read_text(encoding="utf-8"))
        bands, dtype = [BandStats.from_json(band) for band in figures["bands"]], figures["dtype"]
        if not first:
            first, first_dtype, merged = scene, dtype, bands
        elif (len(bands), dtype) != (len(merged), first_dtype):
            raise DataError(
                f"analyze: scenes must be alike: {first} has {len(merged)} bands of {first_dtype}, {scene} has "
                f"{len(bands)} of {dtype}. Select bands with `channels`, or convert the imagery"
            )
        else:
            merged = [functools.reduce(BandStats.merge, pair) for pair in zip(merged, bands, strict=True)]
        progress.advance()
    for index, band in enumerate(merged):
        if not band.count:
            raise DataError(
                f"analyze: band {index} (in the order of `channels`) has no valid pixel in any of the scenes "
                f"{', '.join(scenes)}: everything is nodata or masked. Check `nodata` and `channels`, or raise "
                "`analyze.sample`"
            )
    write_stats(outputs / "stats.json", merged, first_dtype)
