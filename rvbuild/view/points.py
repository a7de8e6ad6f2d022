"""One pixel of a scene: its values, and what labels and predictions say there."""

from __future__ import annotations

from typing import Any

import numpy as np

from rvbuild.errors import RvbuildError, UsageError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.windows import Window
from rvbuild.view.scenes import ViewedScene
from rvbuild.view.tiles import label_ids, predicted_ids


def point_json(scene: ViewedScene, row: int, col: int) -> dict[str, Any]:
    """Return what is known of a pixel: `values` by band, null without data; `label` and `prediction`, class names.

    Raises
    ------
    UsageError
        The pixel is not in the scene.
    """
    window = Window(row, col, 1, 1)
    with scene.readers.turn:
        with scene.image() as image:
            if not window.inside(image.grid.height, image.grid.width):
                raise UsageError(f"row {row}, column {col} is outside of scene {scene.scene.id}")
            pixels, valid = image.read(window)
            names = image.descriptions
        values = [_value(v) if known else None for v, known in zip(pixels[:, 0, 0], valid[:, 0, 0], strict=True)]
        point: dict[str, Any] = {"row": row, "col": col, "bands": list(names), "values": values}
        if scene.task.COUNTED == "pixels":
            if scene.labels_version is not None:
                try:
                    point["label"] = _name(scene, int(label_ids(scene, window, 1)[0, 0]))
                except RvbuildError as error:
                    point["label"] = str(error)
            if scene.prediction is not None:
                point["prediction"] = _name(scene, int(predicted_ids(scene, window, 1)[0, 0]))
    return point


def _name(scene: ViewedScene, class_id: int) -> str | None:
    return None if class_id == NODATA else str(scene.classes[class_id]["name"])


def _value(value: np.generic) -> float | int:
    plain = value.item()
    return round(plain, 6) if isinstance(plain, float) else int(plain)
