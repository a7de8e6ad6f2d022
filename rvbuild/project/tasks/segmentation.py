"""The declaration of semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping

from rvbuild.project.tasks.augmentations import NAMES
from rvbuild.project.tasks.losses import OF_PIXELS
from rvbuild.project.tasks.spec import TaskSpec

_UNET = ("encoder_depth", "decoder_use_norm", "decoder_channels", "decoder_attention_type", "decoder_interpolation")

DECODERS: Mapping[str, tuple[str, ...]] = {
    "unet": _UNET,
    "unetplusplus": _UNET,
    "manet": ("encoder_depth", "decoder_use_norm", "decoder_channels", "decoder_pab_channels", "decoder_interpolation"),
    "linknet": ("encoder_depth", "decoder_use_norm"),
    "fpn": (
        *("decoder_pyramid_channels", "decoder_segmentation_channels", "decoder_merge_policy", "decoder_dropout"),
        "decoder_interpolation",
    ),
    "pspnet": ("psp_out_channels", "decoder_use_norm", "psp_dropout"),
    "deeplabv3": ("decoder_channels", "decoder_atrous_rates", "decoder_aspp_separable", "decoder_aspp_dropout"),
    "deeplabv3plus": ("decoder_channels", "decoder_atrous_rates", "decoder_aspp_separable", "decoder_aspp_dropout"),
    "pan": ("decoder_channels", "decoder_interpolation"),
    "upernet": ("decoder_channels", "decoder_use_norm"),
    "segformer": ("decoder_segmentation_channels",),
}
"""The decoders of segmentation-models-pytorch with their arguments, which keep their names there."""


SPEC = TaskSpec(
    name="semantic_segmentation",
    module="rvbuild.tasks.segmentation.task",
    gives="a class for each pixel",
    hub="image-segmentation",
    about="pixels",
    models=(
        *("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"),
        *("fcn_resnet50", "lraspp_mobilenet_v3_large", "unet"),
    ),
    decoders=DECODERS,
    scratch=("unet",),
    headline="mean IoU",
    metrics=("mean_iou", "mean_f1"),
    summary=("overall_accuracy", "mean_iou", "kappa", "labelled_px", "not_predicted_px"),
    of_classes=("iou", "f1", "precision", "recall", "sensitivity", "specificity"),
    losses=OF_PIXELS,
    augmentations=NAMES,
    raw=("raw_labels.tif",),
    keys={"eval": ("strip_px",)},
    gives_pixels=True,
    drafted=("labels.tif",),
    score_raster="scores.tif",
    reviewed="scores.tif",
    scores=("K", "H", "W"),
    results=("labels.tif", "labels.qml", "scores.tif", "scores.qml", "rgb.tif"),
)
