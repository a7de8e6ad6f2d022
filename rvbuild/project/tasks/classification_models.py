"""The models that classify chips, and the chips that they can work on."""

from __future__ import annotations

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
"""Those without."""

_LEAST_PX = {
    "alexnet": 63,
    "convnext": 32,
    "densenet": 29,
    "googlenet": 15,
    "inception_v3": 75,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
    "swin": 4,
    "vgg": 32,
}
"""The smallest chips of a family."""

_IMAGE_SIZE = 224
"""What transformers of a fixed size are made for, if `image_size` says nothing else."""


def size_problem(model: str, args: dict[str, object], chip_px: int | None) -> str | None:
    """Return why a model cannot work on chips of a size, or None; any other model than a classifier can.

    >>> size_problem("inception_v3", {}, 64)
    'needs chips of at least 75 px, but chip.size_px is 64'
    """
    if chip_px is None or model not in TORCHVISION:
        return None
    if model.startswith(("vit_", "maxvit_")):
        image_size = args.get("image_size", _IMAGE_SIZE)
        if image_size == chip_px:
            return None
        step = 32 if model.startswith("maxvit") else int(model.rsplit("_", 1)[1])
        way = f"set model_args = {{ image_size = {chip_px} }}"
        if chip_px % step:
            way = f"set chip.size_px and model_args.image_size to one multiple of {step}"
        return f"works on chips of {image_size} px, but chip.size_px is {chip_px}; {way}"
    least = next((px for family, px in _LEAST_PX.items() if model.startswith(family)), 1)
    return f"needs chips of at least {least} px, but chip.size_px is {chip_px}" if chip_px < least else None
