"""torchvision's detectors: Faster R-CNN, RetinaNet, FCOS and SSDlite, for any number of bands, classes and chip size.

A detector follows torchvision: `model(images, targets)` in training returns a dict of losses, `model(images)` in eval
mode a list of `{"boxes": (n, 4) x0 y0 x1 y1, "scores": (n,), "labels": (n,)}`; `first_label` is the label of the first
class. See also `rvbuild.learn.models.detectors.heads`.

`model_args`, beside those of the heads, of all but SSDlite, which takes `detections` only:

* `norm`: "batch", or "group" normalisation, which does not mind batches of one chip.
* `trainable_layers`: 5, all of the backbone; 0 to 4 leave the first ones as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models as classifiers
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from rvbuild.errors import ModelError
from rvbuild.learn.models import torchvision_classification
from rvbuild.learn.models.arguments import check_names, whole_number
from rvbuild.learn.models.detectors.heads import HEADS, LAYERS, SCORE_FLOOR, WINDOW_IOU, detections, fpn_channels
from rvbuild.learn.models.detectors.parts import AsItIs, place_in_float32
from rvbuild.learn.models.first_conv import adapt_bands, first_conv
from rvbuild.learn.models.pretrained.weights import State, fetch, load_local, read_weights
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.project.tasks.detection import MODEL_ARGS, SPEC
from rvbuild.settings.train import Arguments

_MOBILENET = "mobilenet_v3_large"

NAMES = SPEC.models

_LAYERS = (*LAYERS, *(f"head.classification_head.module_list.{level}.1" for level in range(6)))
"""The layers whose size depends on the number of classes."""


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
) -> nn.Module:
    """Make a detector; see `rvbuild.learn.models.build`.

    Pretrained are the backbones. A weights file may hold the backbone alone, as torchvision's classification models are
    saved, or the whole detector, also for other classes.
    """
    family = name.partition("_")[0]
    check_names(name, args, MODEL_ARGS[family])
    backbone_of = backbone_name(name)
    options: dict[str, Any] = {"norm_layer": _norm(name, args)}
    if family == "ssdlite":
        options["norm_layer"] = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    backbone: nn.Module = classifiers.get_model(backbone_of, weights=None, **options)
    state, path = _state(pretrained, backbone_of, note)
    whole = any(key.startswith("backbone.") for key in state)
    kernel = state.get(_in_detector(first_conv(backbone)[0], family) if whole else first_conv(backbone)[0] + ".weight")
    if kernel is not None and kernel.dim() == 4:
        # A file for three bands is loaded unchanged; then the first convolution is adapted if needed.
        adapt_bands(backbone, kernel.shape[1], trained=False)
    if state and not whole:
        # The classifier's last layer is not used at all: no need to speak of it.
        tell = note if isinstance(pretrained, Path) else lambda _: None
        load_local(backbone, state, path, tell, (torchvision_classification.last_layer(backbone),))
        adapt_bands(backbone, bands, trained=True)
        state = {}
    elif not state:
        adapt_bands(backbone, bands, trained=False)
    if family == "ssdlite":
        model = _ssdlite(name, backbone, first_conv(backbone)[1].in_channels, outputs, args)
    else:
        model = HEADS[family](name, partial(_pyramid, name, backbone, args), outputs, args)
    model.transform = AsItIs()
    place_in_float32(model)
    if state:
        load_local(model, state, path, note, _LAYERS)
        adapt_bands(model, bands, trained=True)
    return model


def backbone_name(name: str) -> str:
    """Return the name of the classification network that is the backbone of a detector.

    >>> backbone_name("fcos_resnet18_fpn")
    'resnet18'
    """
    return name.partition("_")[2].removesuffix("_fpn")


def _state(pretrained: bool | Path, backbone: str, note: Callable[[str], None]) -> tuple[State, Path]:
    """Return weights to start from, none for random ones, and the file that they are from."""
    if pretrained is False:
        return {}, Path()
    if isinstance(pretrained, Path):
        return read_weights(pretrained), pretrained
    url = torchvision_classification.weights_url(backbone)
    return fetch(url, note), Path(url)


def _in_detector(conv: str, family: str) -> str:
    """Return the name that the weight of the backbone's first convolution has in a whole detector."""
    if family == "ssdlite":
        return "backbone.features.0.0.0.weight"
    return f"backbone.body.{conv.removeprefix('features.')}.weight"


def _ssdlite(name: str, backbone: nn.Module, bands: int, outputs: int, args: Arguments) -> nn.Module:
    whole: Any = backbone
    blocks, norm = whole.features, partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    strided = [i for i, block in enumerate(blocks) if getattr(block, "_is_cn", False)]
    extractor = SSDLiteFeatureExtractorMobileNet(blocks, strided[-1], norm)
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    extractor.eval()
    with torch.no_grad():
        channels = [value.shape[1] for value in extractor(torch.zeros(1, bands, 64, 64)).values()]
    extractor.train()
    model: nn.Module = detection.ssd.SSD(
        extractor,
        anchors,
        (320, 320),  # not used: boxes are relative to the size of the chip
        outputs + 1,
        head=SSDLiteHead(channels, anchors.num_anchors_per_location(), outputs + 1, norm),
        score_thresh=SCORE_FLOOR,
        nms_thresh=WINDOW_IOU,
        detections_per_img=detections(name, args),
        topk_candidates=max(400, detections(name, args)),
    )
    model.first_label = 1  # type: ignore[assignment]
    return model


def _pyramid(name: str, backbone: nn.Module, args: Arguments, stages: Sequence[int], extra: ExtraFPNBlock) -> nn.Module:
    """Return a feature pyramid over stages 1 to 4 of a backbone, whose strides are 4, 8, 16 and 32 pixels."""
    trainable = whole_number(name, args, "trainable_layers", 5, 0, 5)
    body: Any = backbone
    if _MOBILENET in name:
        body = body.features
        strided = [i for i, block in enumerate(body) if getattr(block, "_is_cn", False)]
        # The last stage ends with the last block.
        ends = [*strided[:3], len(body) - 1]
        layers, widths = [str(end) for end in ends], [body[end].out_channels for end in ends]
        frozen = [str(i) for i in range([len(body), *reversed(strided), 0][trainable])]
    else:
        layers = [f"layer{stage}" for stage in (1, 2, 3, 4)]
        widths = [body.inplanes // 8 * 2**stage for stage in range(4)]
        order = ["layer4", "layer3", "layer2", "layer1", "conv1", "bn1"]
        frozen = [] if trainable == 5 else order[trainable:]
    for part in frozen:
        body.get_submodule(part).requires_grad_(False)
    chosen = {layers[stage - 1]: str(place) for place, stage in enumerate(stages)}
    pyramid: nn.Module = BackboneWithFPN(
        body, chosen, [widths[stage - 1] for stage in stages], fpn_channels(name, args), extra_blocks=extra
    )
    return pyramid


def _norm(name: str, args: Arguments) -> Callable[..., nn.Module]:
    kind = args.get("norm", "batch")
    if kind not in ("batch", "group"):
        raise ModelError(f'train.model_args.norm: model "{name}" expects "batch" or "group", found {kind!r}')
    return nn.BatchNorm2d if kind == "batch" else _group_norm


def _group_norm(channels: int) -> nn.Module:
    # Groups of 8 channels, as far as they go up.
    return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: the backbone without the pyramid over it."""
    backbone = model.get_submodule("backbone")
    return of_module(getattr(backbone, "body", backbone))
