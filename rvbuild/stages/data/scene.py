"""The data stage, for one scene: counts of its labels and of its pixels with data, and a picture of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rvbuild import tasks
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.raster.meaning import meaning
from rvbuild.geo.raster.open import describe, open_scene_image
from rvbuild.geo.windows import sliding
from rvbuild.geo.write.overview import lay_over, outlined, overview, step_of, write_jpeg
from rvbuild.geo.write.picture import rgb_preview, side_by_side
from rvbuild.progress import Progress
from rvbuild.settings.chip import ChipSettings
from rvbuild.stages.data.settings import SurveySettings
from rvbuild.stages.data.survey import SceneSurvey, TaggedImageFacts
from rvbuild.stages.threads.block_cache import block_cache

SIDE_PX = 420
"""Maximum side of each of the two pictures."""

BLOCK_PX = 512


def run(inputs: Mapping[str, Sequence[Path]], settings: SurveySettings, outputs: Path, progress: Progress) -> None:
    """Write `survey.json` and `picture.jpg`.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `labels`, `aoi`: as for the chip stage, empty if there are none.
    settings
        How image and labels are read, how chips are cut, and whether labels are drawn as outlines.
    outputs
        Receives both files. The picture shows the image, and beside it the image with its labels if there are any.
    progress
        Receives the blocks of pixels that are read.
    """
    classes, chip, task = settings["classes"], settings["chip"], tasks.get(settings["task"])
    with open_scene_image(inputs["image"], settings) as image, block_cache(image, BLOCK_PX):
        grid = image.grid
        facts: TaggedImageFacts = {**describe(image), "tags": meaning(inputs["image"], settings)}
        aoi = open_aoi(inputs.get("aoi", ()), grid, settings.get("area"))
        step = step_of(grid, SIDE_PX)
        picture = rgb_preview(*overview(image, step))
        blocks = [b.clip(grid.height, grid.width) for b in sliding(grid.height, grid.width, BLOCK_PX, BLOCK_PX)]
        progress.start("data", len(blocks), "blocks")
        valid = inside = 0
        for block in blocks:
            known = image.read(block)[1].any(axis=0)
            area = np.ones_like(known) if aoi is None or aoi.contains(block) else aoi.mask(block)
            valid += int(np.count_nonzero(known & area))
            inside += int(np.count_nonzero(area))
            progress.advance()
    survey: SceneSurvey = {"image": facts, "pixels": inside, "valid": valid, "unknown": {}}
    if inputs.get("labels"):
        files, of_labels = inputs["labels"], settings["labels"]
        assert of_labels is not None
        side_by: ChipSettings = {
            **chip,
            "stride_px": of_labels["cells"]["cell_px"] if "cells" in of_labels else chip["size_px"],
        }
        with task.labels(files, of_labels, grid, classes, settings["null_id"]) as labels:
            windows = task.chip_windows(files, of_labels, grid, classes, side_by)
            counts, overlay, unknown = task.survey(labels, windows, aoi, step, classes)
        survey["counts"], survey["unknown"] = counts.tolist(), dict(sorted(unknown.items()))
        overlay = outlined(overlay) if settings.get("outlines") else overlay
        picture = side_by_side(picture, lay_over(picture, overlay))
    (outputs / "survey.json").write_text(json.dumps(survey, sort_keys=True) + "\n", encoding="utf-8")
    write_jpeg(outputs / "picture.jpg", picture)
