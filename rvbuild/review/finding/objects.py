"""What there is to judge in a scene: its labels, errors made of them on purpose, and places that may lack a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import shapely

from rvbuild.review.finding import rehearsal
from rvbuild.review.finding.candidates import candidates
from rvbuild.review.finding.evidence import Evidence, Typical, evidence, typical
from rvbuild.review.finding.maps import ScoreMap
from rvbuild.review.shapes import iou
from rvbuild.review.suspect import Kind, Source

SMALLEST = 2
"""Cells: labels that are smaller are not judged, and nothing is learned from them."""

LARGEST = 0.25
"""Labels that cover more of the scene than this are no objects that could be moved, or forgotten."""

MOST_PLACES = 4
"""Places of a class that are looked at, relative to its labels and a few more."""

OWN, REST = 0.35, 0.4
"""A place is a label if they overlap so much, intersection over union; else this share of it must be beside labels."""

FREE = 0.1
"""An outline is put where labels of its class cover less of it."""


@dataclass(frozen=True)
class Label:
    """A label of a scene, in its pixels."""

    area: Any
    class_id: int
    source: Source


@dataclass(frozen=True)
class Scene:
    """A labelled scene."""

    name: str
    scores: ScoreMap
    labels: Sequence[Label]
    bounds: tuple[float, float, float, float]
    """Of the area of interest, in pixels."""
    fold: Callable[[float, float], int]
    """Of a place: what is judged there is judged by what was learned elsewhere."""
    kinds: Sequence[Kind]
    """The kinds of error that its labels can have."""
    seed: int
    area: Any = None
    """What is reviewed, a geometry in pixels; None: all of the scene."""
    unjudged: Sequence[Label] = ()
    """Labels that lie mostly outside of `area`. They are not judged, but an object that has one has a label."""


class Item(NamedTuple):
    """A label, or an error that was made of one."""

    scene: int
    label: int
    kind: str
    """`right`, or the kind of error."""
    class_id: int
    fold: int
    evidence: Evidence
    overlap: float
    """With any other label, intersection over union."""


class Place(NamedTuple):
    """A place where an object may be."""

    scene: int
    area: Any
    class_id: int
    fold: int
    evidence: Evidence
    strength: float
    labelled: float
    """The largest overlap with a label of the class, intersection over union."""
    covered: float
    """The share of it that labels of the class cover."""
    known: float
    """The largest overlap with a label of any class, intersection over union."""


def typical_of(areas: Mapping[int, Sequence[float]]) -> dict[int, Typical]:
    """Return what is typical of the labels of each class, given their areas."""
    return {class_id: typical(np.array(of_class)) for class_id, of_class in sorted(areas.items()) if len(of_class)}


def items_of(number: int, scene: Scene, kinds: Mapping[int, Typical], share: float) -> tuple[list[Item], list[Item]]:
    """Return the labels of a scene, and errors made of a share of them."""
    near = Neighbours([*scene.labels, *scene.unjudged])
    items, made = list[Item](), list[Item]()

    def item(index: int, kind: str, class_id: int, area: Any, without: int) -> Item:
        label = scene.labels[index]
        own = label.area if without >= 0 and class_id == label.class_id else None
        seen = evidence(area, class_id, scene.scores, kinds[class_id], list(kinds), own)
        centre = label.area.centroid
        # Where nothing can be drawn twice, an overlap tells what was made of labels, and no error.
        overlap = near.overlap(area, without) if "duplicate" in scene.kinds else 0.0
        return Item(number, index, kind, class_id, scene.fold(centre.x, centre.y), seen, overlap)

    for index, label in enumerate(scene.labels):
        if not is_object(label.area, scene.scores):
            continue
        right = item(index, "right", label.class_id, label.area, index)
        items.append(right)
        rng = np.random.default_rng([scene.seed, index])
        if rng.uniform() >= share:
            continue
        if "outline" in scene.kinds:
            made.append(item(index, "outline", label.class_id, rehearsal.moved(label.area, rng), index))
            made.append(item(index, "outline", label.class_id, rehearsal.misdrawn(label.area, rng), index))
        if "duplicate" in scene.kinds:
            # The evidence of a copy is as that of the label; that they overlap is new.
            overlap = iou(label.area, rehearsal.copied(label.area, rng))
            made.append(right._replace(kind="duplicate", overlap=overlap))
        others = [class_id for class_id in kinds if class_id != label.class_id]
        if others and "class" in scene.kinds:
            made.append(item(index, "class", others[int(rng.integers(len(others)))], label.area, index))
        area = None
        if "missing" in scene.kinds:
            area = rehearsal.elsewhere(label.area, rng, scene.bounds, near.free_of(label.class_id))
        if area is not None:
            # Where everything has a class, what is no object of this class is one of another.
            made.append(item(index, "spurious" if "spurious" in scene.kinds else "class", label.class_id, area, -1))
    return items, made


def places_of(number: int, scene: Scene, kinds: Mapping[int, Typical]) -> list[Place]:
    """Return the places of a scene where objects may be, labelled or not."""
    if "missing" not in scene.kinds:
        return []
    near, places = Neighbours([*scene.labels, *scene.unjudged]), list[Place]()
    for class_id, of_class in kinds.items():
        count = sum(label.class_id == class_id for label in scene.labels)
        for candidate in candidates(scene.scores, class_id, of_class, MOST_PLACES * (count + 10)):
            area = near.trimmed(candidate.area, class_id)
            if not is_mostly_in(scene.area, area):
                continue
            centre = area.centroid
            places.append(
                Place(
                    number,
                    area,
                    class_id,
                    scene.fold(centre.x, centre.y),
                    evidence(area, class_id, scene.scores, of_class, list(kinds)),
                    candidate.strength,
                    near.overlap(area, -1, class_id),
                    near.covered(area, class_id),
                    near.overlap(area, -1),
                )
            )
    return places


def is_mostly_in(area: Any, outline: Any) -> bool:
    """Tell whether more than half of an outline lies in an area; None is everywhere."""
    return area is None or area.covers(outline) or shapely.intersection(area, outline).area > 0.5 * outline.area


class Neighbours:
    """The labels of a scene, to be asked which of them overlap what."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self._areas = np.empty(len(labels), dtype=object)
        self._areas[:] = [label.area for label in labels]
        self._ids = np.array([label.class_id for label in labels], dtype=np.int64)
        self._tree = shapely.STRtree(self._areas)

    def overlap(self, area: Any, without: int, class_id: int | None = None) -> float:
        """Return the largest intersection over union with a label, of one class or of any."""
        best = 0.0
        for index in self._tree.query(area, predicate="intersects"):
            if index != without and (class_id is None or self._ids[index] == class_id):
                best = max(best, iou(self._areas[index], area))
        return best

    def trimmed(self, area: Any, class_id: int) -> Any:
        """Return an area without what labels of a class cover of it, unless the area is one of these labels, or little.

        An object beside a labelled one is often found as one with it.
        """
        near = [index for index in self._tree.query(area, predicate="intersects") if self._ids[index] == class_id]
        if not near or any(iou(self._areas[index], area) >= OWN for index in near):
            return area
        rest = shapely.difference(area, shapely.union_all(self._areas[near]))
        parts = [part for part in shapely.get_parts(rest) if part.geom_type == "Polygon"]
        best = max(parts, key=lambda part: float(part.area), default=area)
        return best if best.area >= REST * area.area else area

    def free_of(self, class_id: int) -> Callable[[Any], bool]:
        """Return a function that tells whether labels of a class hardly cover an area."""
        return lambda area: self.covered(area, class_id) < FREE

    def covered(self, area: Any, class_id: int) -> float:
        """Return the share of an area that labels of a class cover."""
        near = [index for index in self._tree.query(area) if self._ids[index] == class_id]
        if not near:
            return 0.0
        pieces = shapely.intersection(self._areas[near], area)
        return float(shapely.union_all(pieces).area / max(area.area, 1e-9))


def is_object(area: Any, scores: ScoreMap) -> bool:
    """Tell whether a label is large enough to be seen, and small enough to be an object."""
    _, rows, cols = scores.odds.shape
    cell = scores.stride_px**2
    return bool(SMALLEST * cell <= area.area <= LARGEST * rows * cols * cell)
