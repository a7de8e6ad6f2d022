"""The chip sizes that classifiers accept."""

from __future__ import annotations

from collections.abc import Mapping

from rvbuild.project.tasks.classification import TORCHVISION

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
"""The smallest chips of each family of models, in pixels."""

_IMAGE_SIZE = 224
"""Default `image_size` of transformers with a fixed size."""


def size_problem(model: str, args: Mapping[str, object], chip_px: int | None) -> str | None:
    """Return why a model does not accept chips of a size, or None; only classifiers have limits.

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
            way = f"set chip.size_px and model_args.image_size to the same multiple of {step}"
        return f"works on chips of {image_size} px, but chip.size_px is {chip_px}; {way}"
    least = next((px for family, px in _LEAST_PX.items() if model.startswith(family)), 1)
    return f"needs chips of at least {least} px, but chip.size_px is {chip_px}" if chip_px < least else None
