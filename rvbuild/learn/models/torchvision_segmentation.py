"""torchvision's segmentation networks: DeepLabV3, LR-ASPP and FCN on ResNet and MobileNetV3 backbones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights, ResNet101_Weights, segmentation

from rvbuild.learn.models.arguments import check_names
from rvbuild.learn.models.first_conv import adapt_bands, first_conv
from rvbuild.learn.models.pretrained.weights import State, fetch, load_local, read_weights
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.settings.train import Arguments


@dataclass(frozen=True)
class _Network:
    make: Callable[..., nn.Module]
    backbone: Any
    """torchvision's weights of the backbone: a fixed version, so that a new torchvision gives the same start."""
    heads: tuple[str, ...]
    """The layers whose size depends on the number of classes."""


_LAST = ("classifier.4",)
_NETWORKS = {
    "deeplabv3_resnet50": _Network(segmentation.deeplabv3_resnet50, ResNet50_Weights.IMAGENET1K_V2, _LAST),
    "deeplabv3_resnet101": _Network(segmentation.deeplabv3_resnet101, ResNet101_Weights.IMAGENET1K_V2, _LAST),
    "deeplabv3_mobilenet_v3_large": _Network(
        segmentation.deeplabv3_mobilenet_v3_large, MobileNet_V3_Large_Weights.IMAGENET1K_V2, _LAST
    ),
    "lraspp_mobilenet_v3_large": _Network(
        segmentation.lraspp_mobilenet_v3_large,
        MobileNet_V3_Large_Weights.IMAGENET1K_V2,
        ("classifier.low_classifier", "classifier.high_classifier"),
    ),
    "fcn_resnet50": _Network(segmentation.fcn_resnet50, ResNet50_Weights.IMAGENET1K_V2, _LAST),
}

NAMES = tuple(_NETWORKS)


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
) -> nn.Module:
    """Make one of torchvision's networks; see `rvbuild.learn.models.build`.

    A weights file may hold the backbone alone, as torchvision's classification models are saved, or the whole network.
    """
    check_names(name, args, ())
    network = _NETWORKS[name]
    model = network.make(weights=None, weights_backbone=None, num_classes=outputs)
    if pretrained is False:
        adapt_bands(model, bands, trained=False)
        return model
    if isinstance(pretrained, Path):
        state, path = read_weights(pretrained), pretrained
        heads: tuple[str, ...] = network.heads
    else:
        state, path = fetch(network.backbone.url, note), Path(network.backbone.url)
        heads = ()
    whole = any(key.startswith("backbone.") for key in state)
    if not whole:
        state = _as_backbone(state)
    kernel = state.get(first_conv(model)[0] + ".weight")
    if kernel is not None and kernel.dim() == 4:
        # A file for three bands is loaded unchanged; then the first convolution is adapted if needed.
        adapt_bands(model, kernel.shape[1], trained=False)
    # torchvision's own backbones never have the head: no need to say so at every training.
    load_local(model, state, path, note if isinstance(pretrained, Path) else lambda _: None, heads)
    adapt_bands(model, bands, trained=True)
    return model


def backbone_weights(name: str) -> Any:
    """Return torchvision's weights entry of the backbone of a network."""
    return _NETWORKS[name].backbone


def _as_backbone(state: State) -> State:
    """Return a classification network's tensors under their names in the backbone of a segmentation network."""
    return {f"backbone.{name.removeprefix('features.')}": value for name, value in state.items()}


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: the backbone."""
    return of_module(model.get_submodule("backbone"))
