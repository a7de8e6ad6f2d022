"""Stage analyze, for strips of rows of a large scene, and for the scene from its strips.

Integers of at most 16 bits have exact sums. Of other values a strip also stores the moments of each window, which are
merged in the order of the windows: so the statistics of the scene are, digit for digit, those of one pass.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.raster.stats import BandFigures, BandStats, Moments
from rvbuild.progress import Progress
from rvbuild.stages.analyze import scene
from rvbuild.stages.analyze.settings import JoinStatsSettings, StripStatsSettings
from rvbuild.stages.cut import require_rows, strips_in

FIGURES = "strip.json"


class _StripFigures(TypedDict):
    """The content of `strip.json`."""

    bands: list[BandFigures]
    moments: list[list[Moments]]
    """Of each band, of each of its windows that has a valid pixel; of integers of at most 16 bits none."""
    dtype: str


def run(inputs: Mapping[str, Sequence[Path]], settings: StripStatsSettings, outputs: Path, progress: Progress) -> None:
    """Write `strip.json`, the statistics of the windows that begin in some rows.

    Parameters
    ----------
    inputs
        See `rvbuild.stages.analyze.scene.run`.
    settings
        See `StripStatsSettings`.

    Raises
    ------
    DataError
        As `rvbuild.stages.analyze.scene.run`; or the image does not have the rows.
    """
    first, stop = settings["rows"]
    counters, dtype = scene.count(inputs, settings, progress, (first, stop))
    figures: _StripFigures = {
        "bands": [counter.result().to_json() for counter in counters],
        "moments": [counter.moments for counter in counters],
        "dtype": dtype,
    }
    text = json.dumps(figures, sort_keys=True, separators=(",", ":"), allow_nan=False)
    (outputs / FIGURES).write_text(text + "\n", encoding="utf-8")


def run_join(
    inputs: Mapping[str, Sequence[Path]], settings: JoinStatsSettings, outputs: Path, progress: Progress
) -> None:
    """Write `stats.json` of a scene from its strips; if one is not there, from the image.

    Parameters
    ----------
    inputs
        As for `rvbuild.stages.analyze.scene.run`; and `strips/0`, `strips/1` and so on: the `strip.json` of each strip,
        from top to bottom.
    settings
        See `JoinStatsSettings`.
    """
    cut = strips_in(inputs, settings.get("strips"))
    if not cut:
        scene.run(inputs, settings, outputs, progress)
        return
    with open_scene_image(inputs["image"], settings) as image:
        first = image.files[0]
        require_rows(inputs["image"], image.grid, cut[-1].stop, last=True)
    strips: list[_StripFigures] = [json.loads(files[FIGURES].read_text(encoding="utf-8")) for files, _, _ in cut]
    bands = []
    for number in range(len(strips[0]["bands"])):
        whole = functools.reduce(BandStats.merge, (BandStats.from_json(strip["bands"][number]) for strip in strips))
        windows = [Moments(*moments) for strip in strips for moments in strip["moments"][number]]
        bands.append(whole.with_moments(windows))
    scene.require_finite(first, bands)
    scene.write_stats(outputs / "stats.json", bands, strips[0]["dtype"])
