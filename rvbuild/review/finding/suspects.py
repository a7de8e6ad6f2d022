"""Suspects, from the labels and places of all scenes and the probability that each is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from rvbuild.review.finding import rehearsal, words
from rvbuild.review.finding.evidence import Typical
from rvbuild.review.finding.judge import judge_labels, judge_places
from rvbuild.review.finding.objects import Item, Label, Place, Scene
from rvbuild.review.shapes import iou, rings_of
from rvbuild.review.suspect import Kind, Rings, Suspect, fingerprint

LEAST = 0.02
"""Labels that are less probably wrong are no suspects."""

MOST = 10_000
"""Suspects of a project."""

PAIRED = 1.2
"""Diameters from a label to the object that it is of, if it was put in a wrong place."""

SURE, LIKELY = 0.3, 0.1
"""How probably a label must be wrong, and an object lack one, to be the two ends of one mistake."""

SAME = 0.3
"""Labels are of the same object if they overlap this much, intersection over union."""

PARTLY = 0.3
"""Places are of the same object if they share this much of the smaller one."""


class Gathered(NamedTuple):
    """What there is to judge in all scenes."""

    labels: Sequence[Item]
    made: Sequence[Item]
    places: Sequence[Place]


class _Wrong(NamedTuple):
    """A label that is probably wrong."""

    item: Item
    label: Label
    kind: str
    score: float
    chances: Mapping[str, float]


def suspects_of(
    scenes: Sequence[Scene], gathered: Gathered, kinds: Mapping[int, Typical], names: Mapping[int, str]
) -> list[Suspect]:
    """Return the suspects of scenes, in no order.

    Parameters
    ----------
    scenes
        The scenes; their maps are not read.
    gathered
        Their labels, errors and places.
    kinds
        What is typical of the labels of each class.
    names
        Of the classes.
    """
    judged = judge_labels(gathered.labels, gathered.made)
    wrong: list[_Wrong] = []
    for item, chances in zip(gathered.labels, judged.chances, strict=True):
        if len(chances) and (score := float(chances.sum())) >= LEAST:
            kind = judged.kinds[int(chances.argmax())]
            label = scenes[item.scene].labels[item.label]
            wrong.append(_Wrong(item, label, kind, score, dict(zip(judged.kinds, chances.tolist(), strict=True))))
    wrong.sort(key=lambda each: (-each.score, each.item.scene, -each.item.label))
    free, odds = judge_places(gathered.places)
    likely = [(place, float(chance)) for place, chance in zip(free, odds, strict=True) if chance >= LEAST]
    likely.sort(key=lambda pair: (-pair[1], pair[0].scene, pair[0].area.bounds))
    wrong = _without_partners(_first(wrong))
    proposed, left = _paired(wrong, _separate(likely))
    namer = _Namer(scenes, names)
    found = [namer.label(each, proposed.get(number)) for number, each in enumerate(wrong)]
    found += [namer.place(place, chance, kinds[place.class_id]) for place, chance in _first(left)]
    return sorted(found, key=lambda suspect: (-suspect.score, suspect.id))[:MOST]


def _first(ordered: Sequence[Any]) -> list[Any]:
    return list(ordered[:MOST])


def _without_partners(wrong: Sequence[_Wrong]) -> list[_Wrong]:
    """Return labels without the second of two that are of the same object: one of them is right."""
    left_out = set[int]()
    by_scene: dict[int, list[int]] = {}
    for number, each in enumerate(wrong):
        if each.kind == "duplicate":
            by_scene.setdefault(each.item.scene, []).append(number)
    for numbers in by_scene.values():
        tree = shapely.STRtree([wrong[number].label.area for number in numbers])
        for place, number in enumerate(numbers):
            area = wrong[number].label.area
            earlier = (numbers[other] for other in tree.query(area) if other < place)
            if any(other not in left_out and iou(area, wrong[other].label.area) > SAME for other in earlier):
                left_out.add(number)
    return [each for number, each in enumerate(wrong) if number not in left_out]


def _separate(likely: Sequence[tuple[Place, float]]) -> list[tuple[Place, float]]:
    """Return places without those that lie partly where a more probable one is: they are the same object."""
    left_out = set[int]()
    groups: dict[tuple[int, int], list[int]] = {}
    for number, (place, _) in enumerate(likely):
        groups.setdefault((place.scene, place.class_id), []).append(number)
    for numbers in groups.values():
        areas = [likely[number][0].area for number in numbers]
        tree = shapely.STRtree(areas)
        for index, number in enumerate(numbers):
            earlier = [other for other in tree.query(areas[index]) if other < index]
            if any(
                numbers[other] not in left_out
                and shapely.intersection(areas[index], areas[other]).area
                > PARTLY * min(areas[index].area, areas[other].area)
                for other in earlier
            ):
                left_out.add(number)
    return [each for number, each in enumerate(likely) if number not in left_out]


def _paired(
    wrong: Sequence[_Wrong], likely: Sequence[tuple[Place, float]]
) -> tuple[dict[int, Place], list[tuple[Place, float]]]:
    """Return the place that each label is meant for, by its number, and the places that no label is meant for."""
    by_scene: dict[int, list[int]] = {}
    for number, each in enumerate(wrong):
        if each.kind in ("outline", "spurious") and each.score >= SURE:
            by_scene.setdefault(each.item.scene, []).append(number)
    proposed: dict[int, Place] = {}
    left: list[tuple[Place, float]] = []
    trees: dict[int, tuple[Any, list[int]]] = {
        scene: (shapely.STRtree([wrong[number].label.area.centroid for number in numbers]), numbers)
        for scene, numbers in by_scene.items()
    }
    for place, chance in likely:
        best: int | None = None
        if place.scene in trees and chance >= LIKELY:
            tree, numbers = trees[place.scene]
            centre = place.area.centroid
            reach = PAIRED * 2 * rehearsal.diameter(place.area)
            near = [numbers[index] for index in tree.query(centre, predicate="dwithin", distance=reach)]
            near = [
                number
                for number in near
                if number not in proposed
                and wrong[number].item.class_id == place.class_id
                and wrong[number].label.area.centroid.distance(centre)
                <= PAIRED * rehearsal.diameter(wrong[number].label.area)
            ]
            best = min(near, key=lambda number: wrong[number].label.area.centroid.distance(centre), default=None)
        if best is None:
            left.append((place, chance))
        else:
            proposed[best] = place
    return proposed, left


class _Namer:
    """Suspects as records."""

    def __init__(self, scenes: Sequence[Scene], names: Mapping[int, str]) -> None:
        self._scenes, self._names = scenes, names
        self._used: set[str] = set()

    def label(self, wrong: _Wrong, place: Place | None) -> Suspect:
        """Return a label as a suspect; `place` is where its object is, if that is known."""
        scene, item, label = self._scenes[wrong.item.scene], wrong.item, wrong.label
        kind: Kind = "outline" if place is not None else wrong.kind  # type: ignore[assignment]
        seen, proposed_class, proposed = item.evidence, None, None
        if kind == "class":
            proposed_class = self._names[seen.best_class]
        elif kind == "outline":
            proposed = _improved(label.area, item) if place is None else _smooth(place.area, scene.scores.stride_px)
        rings = rings_of(label.area)
        name = self._names[label.class_id]
        changed = label.area.area if proposed is None else label.area.symmetric_difference(proposed).area
        return Suspect(
            id=self._id(scene.name, "label", fingerprint(name, rings)),
            scene=scene.name,
            kind=kind,
            score=round(min(wrong.score, 1.0), 4),
            gain=round(changed * min(wrong.score, 1.0), 1),
            label_class=name,
            proposed_class=proposed_class,
            reason=words.of_label(kind, name, item, proposed_class, place is not None),
            source=label.source,
            polygon=rings,
            proposed_polygon=None if proposed is None else rings_of(proposed),
        )

    def place(self, place: Place, chance: float, of_class: Typical) -> Suspect:
        """Return an object without a label."""
        scene, name = self._scenes[place.scene], self._names[place.class_id]
        rings: Rings = rings_of(_smooth(place.area, scene.scores.stride_px))
        # The outline moves a little from model to model; the place, to half a typical object, hardly does.
        step, centre = math.exp(of_class.log_size) / 2, place.area.centroid
        where = f"{name} {round(centre.x / step)} {round(centre.y / step)}"
        return Suspect(
            id=self._id(scene.name, "missing", where),
            scene=scene.name,
            kind="missing",
            score=round(chance, 4),
            gain=round(place.area.area * chance, 1),
            label_class=None,
            proposed_class=name,
            reason=words.of_place(name, place),
            source=None,
            polygon=rings,
            proposed_polygon=rings,
        )

    def _id(self, *parts: str) -> str:
        """Return an id; of several with the same parts, the next."""
        number = 0
        while True:
            text = "\n".join([*parts, str(number)])
            name = str(xxhash.xxh3_64_hexdigest(text.encode()))
            if name not in self._used:
                self._used.add(name)
                return name
            number += 1


def _improved(area: Any, item: Item) -> Any:
    """Return an outline where, or in the size in which, its class stands out more."""
    seen = item.evidence
    if seen.better_size > seen.better_place or not math.isfinite(seen.better_place):
        return rehearsal.resized(area, seen.factor if seen.factor != 1 else 1.0)
    return rehearsal.placed(area, *seen.shift)


def _smooth(area: Any, cell_px: int) -> Any:
    """Return an outline without the corners of cells."""
    smooth = area.buffer(cell_px).buffer(-2 * cell_px).buffer(cell_px).simplify(cell_px / 4)
    parts = [part for part in shapely.get_parts(smooth) if part.geom_type == "Polygon" and part.area > 0]
    best = max(parts, key=lambda part: float(part.area), default=area)
    return best if best.area >= 0.5 * area.area else area


Floats = NDArray[np.float64]
