"""torchvision's detectors: Faster R-CNN, RetinaNet, FCOS and SSDlite, for any number of bands, classes and chip size.

A detector follows torchvision: `model(images, targets)` in training returns a dict of losses, `model(images)` in eval
mode a list of `{"boxes": (n, 4) x0 y0 x1 y1, "scores": (n,), "labels": (n,)}`; `first_label` is the label of the first
class. Unlike torchvision's, it works on chips as they are, neither resized nor normalised: the chip size is the
project's, and the normalisation too. It gives boxes down to a score of `SCORE_FLOOR`, and leaves those that overlap by
up to `WINDOW_IOU`: what is kept of a scene is decided later.

The heads of RetinaNet have group normalisation, as those of FCOS and of torchvision's `retinanet_resnet50_fpn_v2`:
without, their four layers of weights of 0.01 pass hardly anything on when channels are few, and from random weights
they learn nothing. There are 32 groups, as in torchvision, but of two channels at least.

`model_args`, of those that have such parts:

* `anchor_px`: the side of the anchors at each of the five levels of the pyramid, [32, 64, 128, 256, 512] for Faster
  R-CNN and RetinaNet; [8, 16, 32, 64, 128] for FCOS, where a level learns objects of 4 to 8 such sides. Smaller ones
  find smaller objects.
* `aspect_ratios`: height / width of the anchors, [0.5, 1.0, 2.0].
* `fpn_channels` (256), `head_channels` (1024, of Faster R-CNN): fewer are faster.
* `norm`: "batch", or "group" normalisation, which does not mind batches of one chip.
* `trainable_layers`: 5, all of the backbone; 0 to 4 leave the first ones as they are.
* `proposals`: how many places in a chip Faster R-CNN looks at in prediction, 100. The time that it takes follows them.
* `rois`: how many it learns from in a chip, 512.
* `detections`: the boxes that a chip may have at most, 300.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models as classifiers
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from rvbuild.errors import ModelError
from rvbuild.learn.models import torchvision_classification
from rvbuild.learn.models.arguments import check_names, whole_number
from rvbuild.learn.models.first_conv import adapt_bands, first_conv
from rvbuild.learn.models.weights import State, fetch, load_local, read_weights
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.project.tasks.detection import MODEL_ARGS, MOST_MERGE, SPEC
from rvbuild.settings.train import Arguments

SCORE_FLOOR = 0.05
"""Boxes of a lower score are not given at all."""

WINDOW_IOU = MOST_MERGE
"""Of boxes of a class in one chip that overlap by more, only the best is given."""

_MOBILENET = "mobilenet_v3_large"

NAMES = SPEC.models

_LEVELS = 5
_ROI_PX = 7
"""The side that torchvision pools the features of a proposal to."""

_HEADS = (
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
    "head.classification_head.cls_logits",
    *(f"head.classification_head.module_list.{level}.1" for level in range(6)),
)
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
    make = {"fasterrcnn": _faster_rcnn, "retinanet": _retinanet, "fcos": _fcos, "ssdlite": _ssdlite}[family]
    made_for = first_conv(backbone)[1].in_channels
    model = make(name, backbone, made_for, outputs, args)
    model.transform = _AsItIs()
    _place_in_float32(model)
    if state:
        load_local(model, state, path, note, _HEADS)
        adapt_bands(model, bands, trained=True)
    return model


def backbone_name(name: str) -> str:
    """Return the name of the classification network that is the backbone of a detector.

    >>> backbone_name("fcos_resnet18_fpn")
    'resnet18'
    """
    return name.partition("_")[2].removesuffix("_fpn")


def _place_in_float32(model: nn.Module) -> None:
    """Let a detector reckon with anchors and boxes in float32 though its layers compute in mixed precision.

    torchvision uses the dtype of the layers' outputs, and bfloat16 has steps of 2 pixels from 256 on.
    """
    for name in ("backbone", "head", "rpn.head", "roi_heads.box_predictor"):
        with contextlib.suppress(AttributeError):
            model.get_submodule(name).register_forward_hook(_as_float32)


def _as_float32(layer: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, Mapping):
        return OrderedDict((key, _as_float32(layer, inputs, value)) for key, value in output.items())
    return type(output)(_as_float32(layer, inputs, value) for value in output)


class _RoiPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """torchvision's pooling of proposals, on GPUs by its own kernel where the gradient need not be deterministic.

    Among deterministic algorithms torchvision compiles another, whose gradient is: for nothing in prediction, and
    impossible without a C compiler.
    """

    def forward(self, features: Mapping[str, torch.Tensor], *where: Any) -> torch.Tensor:
        """Return the features of all proposals, (n, channels, px, px)."""
        compiler = any(map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang")))
        own = not _on_gpu(features) or (self.training and compiler)
        with contextlib.nullcontext() if own else _any_kernels():
            pooled: torch.Tensor = super().forward(features, *where)
        return pooled


def _on_gpu(features: Mapping[str, torch.Tensor]) -> bool:
    return any(level.is_cuda for level in features.values())


@contextlib.contextmanager
def _any_kernels() -> Iterator[None]:
    """Allow algorithms that are not deterministic for the length of a block."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


class _AsItIs(nn.Module):
    """Replaces torchvision's transform: chips come in their size and normalised."""

    def forward(self, images: Any, targets: Any = None) -> tuple[ImageList, Any]:
        """Return a batch of images (C, H, W) of one size as torchvision's list of images."""
        batch = images if isinstance(images, torch.Tensor) else torch.stack(list(images))
        return ImageList(batch, [tuple(batch.shape[-2:])] * len(batch)), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Return boxes unchanged."""
        return result


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


def _faster_rcnn(name: str, backbone: nn.Module, bands: int, outputs: int, args: Arguments) -> nn.Module:
    body = _pyramid(name, backbone, args, (1, 2, 3, 4), LastLevelMaxPool())
    head_channels = whole_number(name, args, "head_channels", 1024, 1, 1 << 14)
    proposals = whole_number(name, args, "proposals", 100, 1, 1 << 14)
    model: nn.Module = detection.FasterRCNN(
        body,
        rpn_anchor_generator=_anchors(name, args, (32, 64, 128, 256, 512)),
        rpn_post_nms_top_n_test=proposals,
        rpn_pre_nms_top_n_test=max(1000, proposals),
        box_roi_pool=_RoiPool([str(level) for level in range(4)], _ROI_PX, sampling_ratio=2),
        box_head=TwoMLPHead(_fpn_channels(name, args) * _ROI_PX**2, head_channels),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(head_channels, outputs + 1),
        box_score_thresh=SCORE_FLOOR,
        box_nms_thresh=WINDOW_IOU,
        box_detections_per_img=_detections(name, args),
        box_batch_size_per_image=whole_number(name, args, "rois", 512, 1, 1 << 14),
    )
    # Label 0 is the background.
    model.first_label = 1  # type: ignore[assignment]
    return model


def _retinanet(name: str, backbone: nn.Module, bands: int, outputs: int, args: Arguments) -> nn.Module:
    channels = _fpn_channels(name, args)
    anchors = _anchors(name, args, (32, 64, 128, 256, 512), octaves=3)
    model: nn.Module = detection.RetinaNet(
        _pyramid(name, backbone, args, (2, 3, 4), LastLevelP6P7(channels, channels)),
        outputs,
        anchor_generator=anchors,
        head=RetinaNetHead(channels, anchors.num_anchors_per_location()[0], outputs, norm_layer=_head_norm),
        score_thresh=SCORE_FLOOR,
        nms_thresh=WINDOW_IOU,
        detections_per_img=_detections(name, args),
    )
    model.first_label = 0  # type: ignore[assignment]
    return model


def _fcos(name: str, backbone: nn.Module, bands: int, outputs: int, args: Arguments) -> nn.Module:
    channels = _fpn_channels(name, args)
    head = FCOSHead(32, 1, outputs)
    # With the normalisation of torchvision's, a level of one pixel cannot be trained on when there are 32 channels.
    head.classification_head = FCOSClassificationHead(channels, 1, outputs, norm_layer=_head_norm)
    head.regression_head = FCOSRegressionHead(channels, 1, norm_layer=_head_norm)
    model: nn.Module = detection.FCOS(
        _pyramid(name, backbone, args, (2, 3, 4), LastLevelP6P7(channels, channels)),
        outputs,
        anchor_generator=_anchors(name, {**args, "aspect_ratios": [1.0]}, (8, 16, 32, 64, 128)),
        head=head,
        score_thresh=SCORE_FLOOR,
        nms_thresh=WINDOW_IOU,
        detections_per_img=_detections(name, args),
    )
    model.first_label = 0  # type: ignore[assignment]
    return model


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
        detections_per_img=_detections(name, args),
        topk_candidates=max(400, _detections(name, args)),
    )
    model.first_label = 1  # type: ignore[assignment]
    return model


def _pyramid(name: str, backbone: nn.Module, args: Arguments, stages: Sequence[int], extra: nn.Module) -> nn.Module:
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
        body, chosen, [widths[stage - 1] for stage in stages], _fpn_channels(name, args), extra_blocks=extra
    )
    return pyramid


def _fpn_channels(name: str, args: Arguments) -> int:
    return whole_number(name, args, "fpn_channels", 256, 2, 1 << 12)


def _detections(name: str, args: Arguments) -> int:
    return whole_number(name, args, "detections", 300, 1, 1 << 16)


def _norm(name: str, args: Arguments) -> Callable[..., nn.Module]:
    kind = args.get("norm", "batch")
    if kind not in ("batch", "group"):
        raise ModelError(f'train.model_args.norm: model "{name}" expects "batch" or "group", found {kind!r}')
    return nn.BatchNorm2d if kind == "batch" else _group_norm


def _group_norm(channels: int) -> nn.Module:
    # Groups of 8 channels, as far as they go up.
    return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)


def _head_norm(channels: int) -> nn.Module:
    most = min(32, max(1, channels // 2))
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)


def _anchors(name: str, args: Arguments, default: Sequence[float], octaves: int = 1) -> AnchorGenerator:
    """Return anchors of the given sides, one for each level, in `octaves` sizes between a side and its double."""
    sides = _numbers(name, args, "anchor_px", default, _LEVELS)
    ratios = _numbers(name, args, "aspect_ratios", (0.5, 1.0, 2.0), None)
    sizes = tuple(tuple(side * 2 ** (step / octaves) for step in range(octaves)) for side in sides)
    return AnchorGenerator(sizes, (tuple(ratios),) * len(sizes))


def _numbers(name: str, args: Arguments, key: str, default: Sequence[float], count: int | None) -> Sequence[float]:
    """Return `args[key]`, a list of positive numbers, or else the default."""
    value = args.get(key, default)
    numbers = value if isinstance(value, list | tuple) else ()
    positive = all(isinstance(item, int | float) and not isinstance(item, bool) and item > 0 for item in numbers)
    if not positive or not numbers or (count is not None and len(numbers) != count):
        many = "positive numbers" if count is None else f"{count} positive numbers, one for each level"
        raise ModelError(f'train.model_args.{key}: model "{name}" expects a list of {many}, found {value!r}')
    return numbers


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: the backbone without the pyramid over it."""
    backbone = model.get_submodule("backbone")
    return of_module(getattr(backbone, "body", backbone))
