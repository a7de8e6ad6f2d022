"""The report stage, for one scene: a picture of the image and, beside it, of the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rvbuild import tasks
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.write.overview import lay_over, overview, step_of, write_jpeg
from rvbuild.geo.write.picture import Picture, rgb_preview
from rvbuild.progress import Progress
from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.stages.threads.block_cache import block_cache

QUICKLOOK = "quicklook.jpg"

SIDE_PX = 720
"""Of each of the two pictures, at most."""

_GAP_PX = 6


class QuicklookSettings(SceneImageSettings):
    """The settings of the stage."""

    task: str
    classes: list[ClassSettings]


def run(inputs: Mapping[str, Sequence[Path]], settings: QuicklookSettings, outputs: Path, progress: Progress) -> None:
    """Write `quicklook.jpg`.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `predictions`: the file of its predictions that evaluation reads.
    settings
        See `QuicklookSettings`.
    outputs
        Receives `quicklook.jpg`: the scene at most `SIDE_PX` wide and high, without and with predictions.
    progress
        Not used: the work is short.
    """
    (predictions,) = inputs["predictions"]
    with open_scene_image(inputs["image"], settings) as image, block_cache(image, 1):
        step = step_of(image.grid, SIDE_PX)
        plain = rgb_preview(*overview(image, step))
        overlay = tasks.get(settings["task"]).overlay(predictions, image.grid, step, settings["classes"])
    write_jpeg(outputs / QUICKLOOK, side_by_side(plain, lay_over(plain, overlay)))


def side_by_side(left: Picture, right: Picture) -> Picture:
    """Return two pictures of one height with a white gap between them."""
    gap = np.full((left.shape[0], _GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)
