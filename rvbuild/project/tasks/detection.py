"""The declaration of object detection."""

from __future__ import annotations

from collections.abc import Mapping

from rvbuild.files.formats import BOX_FILES, CHOICE, SUFFIXES
from rvbuild.project.tasks.augmentations import OF_BOXES
from rvbuild.project.tasks.spec import TaskSpec

MOST_MERGE = 0.7
"""Boxes of a window that overlap by more are already merged by the models (`WINDOW_IOU`)."""

_HEAD_ARGS = ("anchor_px", "fpn_channels", "detections")
DECODERS: Mapping[str, tuple[str, ...]] = {
    "fasterrcnn": (*_HEAD_ARGS, "aspect_ratios", "head_channels", "proposals", "rois"),
    "retinanet": (*_HEAD_ARGS, "aspect_ratios"),
    "fcos": _HEAD_ARGS,
}
"""The heads of torchvision that work on the feature pyramid of any encoder, with their arguments."""

MODEL_ARGS: Mapping[str, tuple[str, ...]] = {
    **{name: (*args, "norm", "trainable_layers") for name, args in DECODERS.items()},
    "ssdlite": ("detections",),
}
"""The keys of `model_args` of models without an encoder, by the first word of a model's name."""

_OWN_LOSS = "on object_detection, whose models bring their own losses"

SPEC = TaskSpec(
    name="object_detection",
    module="rvbuild.tasks.detection.task",
    gives="a box around each object",
    hub="object-detection",
    about="boxes",
    models=(
        "fasterrcnn_resnet50_fpn",
        *("fasterrcnn_resnet18_fpn", "fasterrcnn_resnet34_fpn", "fasterrcnn_resnet101_fpn"),
        "fasterrcnn_mobilenet_v3_large_fpn",
        *("retinanet_resnet18_fpn", "retinanet_resnet34_fpn", "retinanet_resnet50_fpn", "retinanet_resnet101_fpn"),
        *("fcos_resnet18_fpn", "fcos_resnet34_fpn", "fcos_resnet50_fpn", "fcos_resnet101_fpn"),
        "ssdlite_mobilenet_v3_large",
    ),
    decoders=DECODERS,
    headline="mean AP50",
    metrics=("mean_ap50", "mean_ap"),
    summary=(
        "mean_ap50",
        "mean_ap",
        "mean_ap75",
        "mean_ap_small",
        "mean_ap_medium",
        "mean_ap_large",
        "precision",
        "recall",
        "f1",
        "labels",
        "boxes",
        "iou_thresh",
        "score_thresh",
        "best_score_thresh",
        "best_f1",
    ),
    of_classes=(
        "ap50",
        "ap",
        "ap75",
        "ap_small",
        "ap_medium",
        "ap_large",
        "precision",
        "recall",
        "f1",
        "sensitivity",
        "specificity",
    ),
    augmentations=OF_BOXES,
    raw=("raw_boxes.safetensors",),
    evaluated=("detections.json",),
    results=(
        *("raw_boxes.safetensors", "detections.json", "boxes.qml"),
        *(f"boxes{suffix}" for suffix in SUFFIXES.values()),
    ),
    models_have_losses=True,
    keys={
        "chip": ("ioa_thresh", "clip", "neg_ratio", "neg_ioa_thresh"),
        "predict": ("boxes", "score_thresh", "merge_thresh"),
        "eval": ("iou_thresh",),
        "box_file": tuple(BOX_FILES),
    },
    unused={
        "labels": {
            "background": "on boxes: what has none is background",
            "all_touched": "on boxes, which are exact",
        },
        "keep": {"min_px": "on boxes, of which one is enough"},
        "train": dict.fromkeys(("loss", "loss_args", "class_weights"), _OWN_LOSS),
        "predict": {
            **dict.fromkeys(("blend", "scores", "rgb"), "on boxes, which are no raster"),
            "vectors": f"on boxes, which are always written as polygons; see boxes = {CHOICE}",
            "mosaic": "on object_detection, which writes no rasters",
        },
    },
    one_class_is_enough=True,
)
