"""The declaration of chip classification."""

from __future__ import annotations

from rvbuild.files.formats import CHOICE, SUFFIXES
from rvbuild.project.tasks.augmentations import NAMES
from rvbuild.project.tasks.losses import OF_CHIPS
from rvbuild.project.tasks.spec import TaskSpec

TORCHVISION = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7"),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    *("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf"),
    *("regnet_x_8gf", "regnet_x_16gf", "regnet_x_32gf"),
    *("regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf"),
    *("regnet_y_8gf", "regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    *("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
    *("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "maxvit_t"),
    *("alexnet", "googlenet", "inception_v3", "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    *("squeezenet1_0", "squeezenet1_1"),
)
"""torchvision's classifiers, all with pretrained weights."""

SCRATCH = ("cnn",)
"""Models without pretrained weights."""

CELL_KEYS = ("cells", "rule", "ioa_thresh", "ioa_over", "pick")
"""The keys of labels that concern cells, besides their size."""

_ONE_GRID = "on cells, which do not overlap"

SPEC = TaskSpec(
    name="chip_classification",
    module="rvbuild.tasks.classification.task",
    gives="a class for each cell of a grid",
    hub="image-classification",
    about="cells",
    models=(*TORCHVISION, *SCRATCH),
    scratch=SCRATCH,
    headline="accuracy",
    metrics=("accuracy", "mean_f1"),
    summary=("accuracy", "kappa", "mean_f1", "mean_average_precision", "labelled_cells", "not_predicted_cells"),
    of_classes=("iou", "f1", "precision", "recall", "sensitivity", "specificity", "average_precision"),
    losses=OF_CHIPS,
    augmentations=NAMES,
    raw=("cells.json",),
    scores=("K",),
    drafted=("cells.json",),
    reviewed="cells.json",
    results=("cells.json", "cells.qml", *(f"cells{suffix}" for suffix in SUFFIXES.values())),
    keys={"labels": ("cell_px", *CELL_KEYS), "predict": ("cells",)},
    unused={
        "labels": {"all_touched": "on cells, which are judged by exact areas"},
        "keep": {"min_px": "on cells, which have one class each"},
        "predict": {
            "stride_px": f"{_ONE_GRID}; their size is labels.cell_px",
            "blend": _ONE_GRID,
            "vectors": f"on cells, which are always written as polygons; see cells = {CHOICE}",
        },
    },
)
