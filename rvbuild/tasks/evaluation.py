"""The results of an evaluation as JSON data: the content of `eval.json`, in Raster Vision's schema. Plain dicts.

Each task has types of its own for what it counts in a scene, and for its summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NotRequired, TypeAlias, TypeVar

from typing_extensions import TypedDict

Summary = TypeVar("Summary")

Counts: TypeAlias = Mapping[str, object]
"""What the task counted in a scene, which adds up over scenes: the content of `eval/SCENE.json`."""


class ClassItem(TypedDict):
    """The figures of a class; those of all classes are the last item, without an id."""

    class_id: NotRequired[int]
    class_name: str
    gt_count: int
    pred_count: int
    count_error: int
    metrics: dict[str, float]
    """By name. What is not known is NaN here, and null in the file."""
    relative_frequency: NotRequired[float]
    conf_mat: NotRequired[list[list[int]]]
    conf_mat_frac: NotRequired[list[list[float]]]
    conf_mat_dict: NotRequired[dict[str, int]]
    conf_mat_frac_dict: NotRequired[dict[str, float]]
    true_pos: NotRequired[int]
    false_pos: NotRequired[int]
    false_neg: NotRequired[int]


class Summaries(TypedDict, Generic[Summary]):
    """The figures over all classes, of all scenes together and of each."""

    overall: Summary
    per_scene: dict[str, Summary]
    split: NotRequired[str]
    """The split that `overall` is of, if there are several."""


class SplitPart(TypedDict, Generic[Summary]):
    """The figures of one split."""

    overall: list[ClassItem]
    summary: Summary


class Evaluation(TypedDict, Generic[Summary]):
    """The content of `eval.json`."""

    overall: list[ClassItem]
    per_scene: dict[str, list[ClassItem]]
    summary: Summaries[Summary]
    splits: NotRequired[dict[str, SplitPart[Summary]]]
    own: NotRequired[dict[str, dict[str, float | None]]]
    """The user's own metrics: `package.module:function` → name → value."""
