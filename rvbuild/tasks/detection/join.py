"""The raw results of a scene by several models, each of other places, as one.

The boxes of each model are merged by themselves, and count where their centre lies in its part of the scene. An object
on the boundary of two parts may be found by both models: it is the merge of the whole scene that leaves one of them.
The result has the form of a raw one, with a single window that is the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.tasks.detection.boxes import RAW_BOXES, read_raw, write_raw
from rvbuild.tasks.detection.merge import merge
from rvbuild.tasks.detection.settings import BoxDeriveSettings


def join(parts: Sequence[Mapping[str, Path]], settings: BoxDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the boxes of all parts as `raw_boxes.safetensors`; see `rvbuild.tasks.protocol.Task.join`."""
    predict = settings["predict"]
    progress.start("join folds", len(parts), "folds")
    merged = []
    for part in parts:
        path = part[RAW_BOXES]
        merged.append(merge(read_raw(path), predict["merge_thresh"], predict["score_thresh"]))
        grid, other = merged[0].grid, merged[-1].grid
        if (grid.height, grid.width) != (other.height, other.width):
            raise DataError(f"{path}: the folds of a scene have different sizes; build the folds again")
        progress.advance()
    grid = merged[0].grid
    boxes = np.concatenate([each.boxes for each in merged])
    write_raw(
        outputs / RAW_BOXES,
        grid,
        [Window(0, 0, grid.height, grid.width)],
        [len(boxes)],
        {
            "boxes": boxes,  # float64: they are in pixels of the scene, to a thousandth
            "scores": np.concatenate([each.scores for each in merged]).astype(np.float32),
            "classes": np.concatenate([each.classes for each in merged]).astype(np.uint8),
            "inside": np.ones(len(boxes), dtype=np.bool_),
        },
    )
