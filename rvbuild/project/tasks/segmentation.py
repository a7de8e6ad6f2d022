"""The declaration of semantic segmentation."""

from __future__ import annotations

from rvbuild.project.tasks.losses import OF_PIXELS
from rvbuild.project.tasks.spec import TaskSpec

SPEC = TaskSpec(
    name="semantic_segmentation",
    module="rvbuild.tasks.segmentation.task",
    gives="a class for each pixel",
    about="pixels",
    models=(
        *("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"),
        *("fcn_resnet50", "lraspp_mobilenet_v3_large", "unet"),
    ),
    scratch=("unet",),
    headline="mean IoU",
    metrics=("mean_iou", "mean_f1"),
    losses=OF_PIXELS,
    raw=("raw_labels.tif",),
    gives_pixels=True,
    score_raster="scores.tif",
    scores=("K", "H", "W"),
    results=("labels.tif", "labels.qml", "scores.tif", "scores.qml", "rgb.tif"),
)
