"""The report stage, for one scene: pictures of the whole scene, and of the places where most is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired

import numpy as np
from PIL import Image

from rvbuild import tasks
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.windows import Window
from rvbuild.geo.write.overview import lay_over, overview, step_of, write_jpeg
from rvbuild.geo.write.picture import Picture, Stretch, rgb_preview, side_by_side, stretch_of
from rvbuild.progress import Progress
from rvbuild.settings.area import OfArea
from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings
from rvbuild.stages.report.pictures import MOST_PLACES, QUICKLOOK, place_picture
from rvbuild.stages.threads.block_cache import block_cache

SIDE_PX = 720
"""Maximum side of each of the two pictures of a scene."""

PANEL_PX = 256
"""Side of each of the four pictures of a place."""


class PictureSettings(SceneImageSettings, OfArea):
    """The settings of the stage."""

    task: str
    classes: list[ClassSettings]
    labels: NotRequired[LabelSettings]
    """Of an evaluated scene, as the next two."""
    null_id: NotRequired[int]
    eval: NotRequired[EvalSettings]


def run(inputs: Mapping[str, Sequence[Path]], settings: PictureSettings, outputs: Path, progress: Progress) -> None:
    """Write the pictures of a scene.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `predictions`: the file of its predictions that evaluation reads. For an
        evaluated scene also `labels`, `aoi` and `places`, the `places.json` of eval.
    settings
        See `PictureSettings`.
    outputs
        Receives `quicklook.jpg`: the scene at most `SIDE_PX` wide and high, without and with predictions; and
        `place_00.jpg` and so on, for at most `MOST_PLACES`: image, labels, predictions and errors side by side.
    progress
        Not used: the work is short.
    """
    (predictions,) = inputs["predictions"]
    with open_scene_image(inputs["image"], settings) as image, block_cache(image, 1):
        step = step_of(image.grid, SIDE_PX)
        pixels, valid = overview(image, step)
        stretch = stretch_of(pixels, valid)
        plain = rgb_preview(pixels, valid, stretch)
        overlay = tasks.get(settings["task"]).overlay(predictions, image.grid, step, settings["classes"])
        write_jpeg(outputs / QUICKLOOK, side_by_side(plain, lay_over(plain, overlay)))
        if "places" in inputs:
            _write_places(inputs, settings, image, stretch, outputs)


def _write_places(
    inputs: Mapping[str, Sequence[Path]],
    settings: PictureSettings,
    image: SceneImage,
    stretch: Stretch,
    outputs: Path,
) -> None:
    """Write a picture of each of the worst places."""
    (predictions,), (places,) = inputs["predictions"], inputs["places"]
    task, classes, null_id = tasks.get(settings["task"]), settings["classes"], settings["null_id"]
    worst = json.loads(places.read_text(encoding="utf-8"))["places"][:MOST_PLACES]
    if not worst:
        return
    aoi = open_aoi(inputs.get("aoi", ()), image.grid, settings.get("area"))
    with task.labels(inputs["labels"], settings["labels"], image.grid, classes, null_id) as labels:
        draw = task.panels(predictions, labels, aoi, classes, null_id, settings["eval"])
        for number, place in enumerate(worst):
            window = Window(*place["window"])
            picture = rgb_preview(*image.read(window), stretch)
            pictures = (picture, *draw(picture, window))
            write_jpeg(outputs / place_picture(number), side_by_side(*map(_scaled, pictures)))


def _scaled(picture: Picture) -> Picture:
    """Return a picture whose longer side has `PANEL_PX`, or less if it is smaller."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest <= PANEL_PX:
        return picture
    size = (max(1, round(width * PANEL_PX / longest)), max(1, round(height * PANEL_PX / longest)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BOX))
