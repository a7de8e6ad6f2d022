"""The check that the predicted scenes fit one raster, which the mosaic stage would only find after training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project

TOLERANCE_PX = 0.01
"""Tolerance of the alignment with the first scene's pixels, equal to that of `rvbuild.geo.write.mosaic`."""

MAX_EMPTY = 100
"""Largest allowed mosaic area, relative to the total area of its scenes, as there."""

_MOST_NAMED = 3
"""Largest number of scenes in a message."""

Facts = Mapping[str, Any]


def findings(project: Project, facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Yield an error if `predict.mosaic` is set but the scenes cannot be joined."""
    if not project.predict.mosaic:
        return
    scenes = {s.id: facts[s.id] for s in project.scenes if s.split != "train" and "transform" in facts.get(s.id, ())}
    if not scenes:
        return
    first, base = next(iter(sorted(scenes.items())))
    problems = [
        text for id_, scene_facts in sorted(scenes.items()) if (text := _problem(id_, scene_facts, first, base))
    ]
    if problems:
        listed = "; ".join(problems[:_MOST_NAMED]) + ("; …" if len(problems) > _MOST_NAMED else "")
        text = (
            f"the predicted scenes cannot be joined into one raster: {listed}. Remove the key, or put the scenes that "
            "fit together into a project of their own"
        )
        yield Finding(Level.ERROR, "mosaic", text, key=("predict", "mosaic"))
    elif project.predict.mosaic == "cog":
        yield from _too_empty(scenes, base)


def _problem(id_: str, scene_facts: Facts, first: str, base: Facts) -> str:
    """Return why a scene does not fit into one raster with the first scene; empty if it does."""
    image, first_image = scene_facts["image"], base["image"]
    if image["crs"] is None:
        return f"scene {id_} has no CRS"
    if first_image["crs"] is None:
        return ""
    if image["crs"] != first_image["crs"]:
        return f"scene {id_} is in {image['crs']}, scene {first} in {first_image['crs']}"
    corners = [(0, 0), (image["width"], 0), (0, image["height"])]
    x, y = zip(*(_on(base["transform"], *_at(scene_facts["transform"], *corner)) for corner in corners), strict=True)
    off = max(max(abs(px - x[0] - col), abs(py - y[0] - row)) for px, py, (col, row) in zip(x, y, corners, strict=True))
    if off > TOLERANCE_PX:
        return f"the pixels of scene {id_} differ in size or orientation from those of scene {first}"
    if max(abs(x[0] - round(x[0])), abs(y[0] - round(y[0]))) > TOLERANCE_PX:
        return f"the pixels of scene {id_} are not aligned with those of scene {first}"
    return ""


def _too_empty(scenes: Mapping[str, Facts], base: Facts) -> Iterator[Finding]:
    """Yield an error if nearly all of a single file would be empty."""
    starts = [_on(base["transform"], *_at(scene_facts["transform"], 0, 0)) for scene_facts in scenes.values()]
    sizes = [(scene_facts["image"]["width"], scene_facts["image"]["height"]) for scene_facts in scenes.values()]
    width, height = (
        max(round(start[axis]) + size[axis] for start, size in zip(starts, sizes, strict=True))
        - min(round(start[axis]) for start in starts)
        for axis in (0, 1)
    )
    if width * height > MAX_EMPTY * sum(w * h for w, h in sizes):
        text = (
            f'"cog" would write {width} x {height} pixels, more than {MAX_EMPTY} times as many as the scenes have, '
            "because the scenes lie far apart; `mosaic = true` writes a virtual raster, which takes no space"
        )
        yield Finding(Level.ERROR, "mosaic", text, key=("predict", "mosaic"))


def _at(transform: list[float], col: float, row: float) -> tuple[float, float]:
    """Return the map coordinates of a point in pixels."""
    a, b, c, d, e, f = transform
    return a * col + b * row + c, d * col + e * row + f


def _on(transform: list[float], x: float, y: float) -> tuple[float, float]:
    """Return the pixel coordinates (column, row) of a point on the map."""
    a, b, c, d, e, f = transform
    x, y = x - c, y - f
    determinant = a * e - b * d
    return (e * x - b * y) / determinant, (a * y - d * x) / determinant
