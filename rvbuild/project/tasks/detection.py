"""Boxes: what object detection adds to the tables of a project, and how they fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from rvbuild.errors import nearest
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Finding, Known, Table, no_effect

if TYPE_CHECKING:
    from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
    from rvbuild.project.tables.chip import ChipTable
    from rvbuild.project.tables.predict import PredictTable
    from rvbuild.project.tables.train import TrainTable

TASK = "object_detection"

CHIP_KEYS = ("ioa_thresh", "clip", "neg_ratio", "neg_ioa_thresh")
PREDICT_KEYS = ("boxes", "score_thresh", "merge_thresh")
EVAL_KEYS = ("iou_thresh",)
"""The keys of the tables that are about boxes."""

MOST_MERGE = 0.7
"""Boxes that overlap by more are merged within a window already, by `WINDOW_IOU` of the models."""

MODELS = (
    "fasterrcnn_resnet50_fpn",
    *("fasterrcnn_resnet18_fpn", "fasterrcnn_resnet34_fpn", "fasterrcnn_resnet101_fpn"),
    "fasterrcnn_mobilenet_v3_large_fpn",
    *("retinanet_resnet18_fpn", "retinanet_resnet34_fpn", "retinanet_resnet50_fpn", "retinanet_resnet101_fpn"),
    *("fcos_resnet18_fpn", "fcos_resnet34_fpn", "fcos_resnet50_fpn", "fcos_resnet101_fpn"),
    "ssdlite_mobilenet_v3_large",
)
"""The models that find boxes; the first is the default."""

_PYRAMID_ARGS = ("anchor_px", "fpn_channels", "norm", "trainable_layers", "detections")
MODEL_ARGS = {
    "fasterrcnn": (*_PYRAMID_ARGS, "aspect_ratios", "head_channels", "proposals", "rois"),
    "retinanet": (*_PYRAMID_ARGS, "aspect_ratios"),
    "fcos": _PYRAMID_ARGS,
    "ssdlite": ("detections",),
}
"""The keys of `model_args`, by the first word of a model's name."""

AnyTable = TypeVar("AnyTable", bound=Table)


def _only_for_boxes(table: Table, keys: tuple[str, ...], known: Known) -> Iterator[Finding]:
    """Yield the keys about boxes that are given for another task."""
    for key in keys if known.task != TASK else ():
        if table.given(key):
            yield Finding((key,), f"is about boxes, which belong to {TASK}; the task is {known.task}")


def check_labels(table: RasterLabelsTable | VectorLabelsTable, known: Known) -> Iterator[Finding]:
    """Find labels that are no boxes, and keys that have no effect on boxes."""
    if known.task != TASK:
        return
    if hasattr(table, "raster"):
        yield Finding(("raster",), f"{TASK} needs boxes or shapes: vector, coco, voc or csv; found a raster")
        return
    for key, why in {
        "background": "on boxes: what has none is background",
        "all_touched": "on boxes, which are exact",
    }.items():
        if table.given(key):
            yield no_effect(key, why)


def check_chip(table: ChipTable, known: Known) -> Iterator[Finding]:
    """Find keys about boxes where there are none, and keys that have no effect."""
    yield from _only_for_boxes(table, CHIP_KEYS, known)
    if known.task != TASK:
        return
    if table.neg_ratio is None and table.given("neg_ioa_thresh"):
        yield no_effect("neg_ioa_thresh", "without neg_ratio, which says how many chips are background")
    elif table.neg_ratio is not None and table.neg_ioa_thresh > table.ioa_thresh:
        yield Finding(
            ("neg_ioa_thresh",),
            f"{show(table.neg_ioa_thresh)} is more than ioa_thresh = {show(table.ioa_thresh)}, so that a chip could be "
            "positive and background at once",
            (("ioa_thresh",),),
        )


def check_train(table: TrainTable, known: Known) -> Iterator[Finding]:
    """Find keys that have no effect on detectors."""
    if known.task != TASK:
        return
    for key in ("loss", "loss_args", "class_weights"):
        if table.given(key):
            yield no_effect(key, f"on {TASK}, whose models bring their own losses")
    model = table.model or MODELS[0]
    if model not in MODELS:
        return
    valid = MODEL_ARGS[model.partition("_")[0]]
    for key in table.model_args:
        if key not in valid:
            hint = nearest(key, valid) or f"; it takes {', '.join(valid)}"
            yield Finding(("model_args", key), f"{show(model)} has no such argument{hint}", (("model",),))


def check_predict(table: PredictTable, known: Known) -> Iterator[Finding]:
    """Find keys of predictions that have no effect on boxes, or only on boxes."""
    yield from _only_for_boxes(table, PREDICT_KEYS, known)
    if known.task != TASK:
        return
    for key in ("blend", "scores", "rgb"):
        if table.given(key):
            yield no_effect(key, "on boxes, which are no raster")
    if table.given("vectors"):
        why = 'on boxes, which are always written as polygons; see boxes = "geojson", "gpkg" or "fgb"'
        yield no_effect("vectors", why)
    if table.merge_thresh > MOST_MERGE:
        yield Finding(
            ("merge_thresh",),
            f"expected at most {MOST_MERGE}, found {show(table.merge_thresh)}; of boxes of one window that overlap by "
            "more, the model gives one only",
        )


def check_eval(table: Table, known: Known) -> Iterator[Finding]:
    """Find keys about boxes where there are none."""
    yield from _only_for_boxes(table, EVAL_KEYS, known)


def of_task(kind: type[AnyTable], table: Table, **update: Any) -> AnyTable:
    """Return a table as that of a task, which tells its stage more: the same keys, some of them changed."""
    fields = {name: getattr(table, name) for name in type(table).model_fields}
    return kind.model_construct(_fields_set=set(table.model_fields_set), **{**fields, **update})
