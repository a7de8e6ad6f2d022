"""Suspects of labels and places: one for one mistake."""

from __future__ import annotations

import numpy as np
import shapely

from rvbuild.review.finding.evidence import NAMES, Evidence
from rvbuild.review.finding.objects import Place
from rvbuild.review.finding.suspects import _separate

SEEN = Evidence(np.zeros(len(NAMES)), (0.0, 0.0), 1.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def place(left: float, width: float = 10.0, scene: int = 0, class_id: int = 0) -> Place:
    return Place(scene, shapely.box(left, 0, left + width, 10), class_id, 0, SEEN, 1.0, 0.0, 0.0, 0.0)


def test_an_object_without_a_label_is_found_once() -> None:
    likely = [(place(0), 0.9), (place(4), 0.8), (place(7.5), 0.7), (place(20, 4), 0.6), (place(18, 12), 0.5)]
    assert [chance for _, chance in _separate(likely)] == [0.9, 0.7, 0.6]


def test_objects_of_other_classes_and_scenes_stay() -> None:
    likely = [(place(0), 0.9), (place(1, class_id=1), 0.8), (place(1, scene=1), 0.7)]
    assert _separate(likely) == likely
