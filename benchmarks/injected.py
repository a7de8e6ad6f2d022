"""Errors injected into labels: some of each kind, at places that a seed chooses, and which suspects mean them.

Nothing of `rvbuild.review` is used here, and nothing there knows how errors are injected here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from numpy.typing import NDArray

RATE = 0.05
"""Of all objects, for each kind of error."""

MOVED, STRETCHED = (0.5, 1.0), 1.8
"""An outline is moved by so many diameters, or its sides are so many times too long or too short."""

COPIED = 0.1
"""A copy is moved by so many diameters at the most."""

HIT, NEAR = 0.3, 0.2
"""A suspect means a wrong label, or an object, with which it shares so much: intersection over union."""


class Injected(NamedTuple):
    """An error."""

    kind: str
    wrong: Any | None
    """The area of the wrong label; None if it is missing."""
    true: Any | None
    """The area of the object; None if there is none. In a raster, the area whose class is hidden."""


class Labels(NamedTuple):
    """Areas with classes."""

    areas: list[Any]
    classes: list[int]


def inject(labels: Labels, bounds: Sequence[float], classes: Sequence[int], seed: int) -> tuple[Labels, list[Injected]]:
    """Return polygons with errors, and the errors. `bounds` are those of the scene."""
    rng = np.random.default_rng([7, seed])
    count = max(1, round(RATE * len(labels.areas)))
    kinds = ("missing", "outline", "duplicate", *(("class",) if len(classes) > 1 else ()))
    chosen = rng.permutation(len(labels.areas))[: count * len(kinds)]
    areas, ids, errors = list[Any](), list[int](), list[Injected]()
    kind_of = {int(index): kinds[number // count] for number, index in enumerate(chosen)}
    for index, (area, class_id) in enumerate(zip(labels.areas, labels.classes, strict=True)):
        kind = kind_of.get(index)
        wrong = area
        if kind == "outline":
            wrong = _misplaced(area, rng)
            errors.append(Injected(kind, wrong, area))
        elif kind == "missing":
            errors.append(Injected(kind, None, area))
            continue
        elif kind == "class":
            class_id = int(rng.choice([other for other in classes if other != class_id]))
            errors.append(Injected(kind, area, area))
        areas.append(wrong)
        ids.append(class_id)
        if kind == "duplicate":
            areas.append(moved(area, rng, 0, COPIED))
            ids.append(class_id)
            errors.append(Injected(kind, areas[-1], area))
    tree = shapely.STRtree(labels.areas)
    for _ in range(count):
        for _ in range(100):
            index = int(rng.integers(len(labels.areas)))
            area, class_id = labels.areas[index], labels.classes[index]
            centre = area.centroid
            x, y = rng.uniform(bounds[0], bounds[2]), rng.uniform(bounds[1], bounds[3])
            there = placed(area, x - centre.x, y - centre.y)
            if shapely.box(*bounds).contains(there) and not len(tree.query(there, predicate="intersects")):
                areas.append(there)
                ids.append(class_id)
                errors.append(Injected("spurious", there, None))
                break
    return Labels(areas, ids), errors


def inject_raster(ids: NDArray[np.uint8], seed: int, least_px: int = 100) -> tuple[NDArray[np.uint8], list[Injected]]:
    """Return a label raster with errors in its objects, the connected areas of a class, and the errors.

    Objects of fewer than `least_px` pixels, and those of more than an eighth of the raster, stay as they are.
    """
    rng = np.random.default_rng([8, seed])
    objects = [
        (shapely.geometry.shape(shape), int(value))
        for shape, value in rasterio.features.shapes(ids)
        if ids.size / 8 > shapely.geometry.shape(shape).area >= least_px
    ]
    kinds = ("missing", "outline", "class", "spurious")
    # Rasters are small: over many of them, the rate holds.
    count = int(np.floor(RATE * len(objects) + rng.uniform()))
    chosen = rng.permutation(len(objects))[: count * len(kinds)]
    result, errors, classes = ids.copy(), list[Injected](), np.unique(ids)
    for number, index in enumerate(chosen):
        kind, (area, class_id) = kinds[number // count], objects[int(index)]
        mask = _mask(area, ids.shape)
        if kind == "class":
            result[mask] = rng.choice(classes[classes != class_id])
            errors.append(Injected(kind, area, area))
        elif kind == "missing":
            result[mask] = _around(ids, area, class_id)
            errors.append(Injected(kind, None, area))
        elif kind == "outline":
            wrong = shapely.intersection(_misplaced(area, rng), shapely.box(0, 0, ids.shape[1], ids.shape[0]))
            result[mask] = _around(ids, area, class_id)
            result[_mask(wrong, ids.shape)] = class_id
            errors.append(Injected(kind, wrong, area))
        else:
            for _ in range(100):
                centre = area.centroid
                there = placed(area, rng.uniform(0, ids.shape[1]) - centre.x, rng.uniform(0, ids.shape[0]) - centre.y)
                mask = _mask(there, ids.shape)
                if shapely.box(0, 0, ids.shape[1], ids.shape[0]).contains(there) and not (ids[mask] == class_id).any():
                    result[mask] = class_id
                    errors.append(Injected(kind, there, there))
                    break
    return result, errors


def means(kind: str, area: Any, error: Injected) -> bool:
    """Tell whether a suspect of a kind, with the area of a label or of an object without one, means an error."""
    if kind == "missing":
        return error.true is not None and error.kind != "duplicate" and _iou(area, error.true) >= NEAR
    if error.wrong is not None and _iou(area, error.wrong) >= HIT:
        return True
    return kind == error.kind == "duplicate" and _iou(area, error.true) >= HIT


def moved(area: Any, rng: np.random.Generator, least: float, most: float) -> Any:
    """Return an area that lies some diameters away."""
    angle, by = rng.uniform(0, 2 * math.pi), rng.uniform(least, most) * 2 * math.sqrt(area.area / math.pi)
    return placed(area, by * math.cos(angle), by * math.sin(angle))


def placed(area: Any, x: float, y: float) -> Any:
    """Return an area moved by x and y."""
    return shapely.transform(area, lambda points: points + np.array([x, y]))


def _misplaced(area: Any, rng: np.random.Generator) -> Any:
    if rng.uniform() < 0.5:
        return moved(area, rng, *MOVED)
    factor = STRETCHED if rng.uniform() < 0.5 else 1 / STRETCHED
    centre = shapely.get_coordinates(area.centroid)[0]
    return shapely.transform(area, lambda points: (points - centre) * factor + centre)


def _mask(area: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if area.is_empty:
        return np.zeros(shape, dtype=np.bool_)
    return np.asarray(rasterio.features.rasterize([area], out_shape=shape, dtype="uint8").astype(bool))


def _around(ids: NDArray[np.uint8], area: Any, class_id: int) -> int:
    """Return the class that most pixels around an area have."""
    ring = _mask(area.buffer(2), ids.shape) & ~_mask(area, ids.shape) & (ids != class_id)
    return int(np.bincount(ids[ring]).argmax()) if ring.any() else class_id


def _iou(first: Any, second: Any) -> float:
    if first.is_empty or second.is_empty:
        return 0.0
    shared = float(shapely.intersection(first, second).area)
    return shared / max(first.area + second.area - shared, 1e-9)
