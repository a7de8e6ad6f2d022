"""Faster R-CNN, RetinaNet and FCOS of torchvision on a feature pyramid.

They work on chips as they are, neither resized nor normalised: the chip size is the project's, and the normalisation
too. They give boxes down to a score of `SCORE_FLOOR`, and leave those that overlap by up to `WINDOW_IOU`: what is kept
of a scene is decided later.

The heads of RetinaNet have group normalisation, as those of FCOS and of torchvision's `retinanet_resnet50_fpn_v2`:
without, their four layers of weights of 0.01 pass hardly anything on when channels are few, and from random weights
they learn nothing. There are 32 groups, as in torchvision, but of two channels at least.

`model_args`, of those that have such parts:

* `anchor_px`: the side of the anchors at each of the five levels of the pyramid, [32, 64, 128, 256, 512] for Faster
  R-CNN and RetinaNet; [8, 16, 32, 64, 128] for FCOS, where a level learns objects of 4 to 8 such sides. Smaller ones
  find smaller objects.
* `aspect_ratios`: height / width of the anchors, [0.5, 1.0, 2.0].
* `fpn_channels` (256), `head_channels` (1024, of Faster R-CNN): fewer are faster.
* `proposals`: how many places in a chip Faster R-CNN looks at in prediction, 100. The time that it takes follows them.
* `rois`: how many it learns from in a chip, 512.
* `detections`: the boxes that a chip may have at most, 300.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from rvbuild.errors import ModelError
from rvbuild.learn.models.arguments import whole_number
from rvbuild.learn.models.detectors.parts import RoiPool
from rvbuild.project.tasks.detection import MOST_MERGE
from rvbuild.settings.train import Arguments

SCORE_FLOOR = 0.05
"""Boxes of a lower score are not given at all."""

WINDOW_IOU = MOST_MERGE
"""Of boxes of a class in one chip that overlap by more, only the best is given."""

LAYERS = (
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
    "head.classification_head.cls_logits",
)
"""The layers whose size depends on the number of classes."""

Pyramid = Callable[[Sequence[int], ExtraFPNBlock], nn.Module]
"""Makes a feature pyramid of some of the stages 1 to 4, whose strides are 4, 8, 16 and 32 pixels, and of more."""

_LEVELS = 5
_ROI_PX = 7
"""The side that torchvision pools the features of a proposal to."""


def faster_rcnn(name: str, pyramid: Pyramid, outputs: int, args: Arguments) -> nn.Module:
    """Return a Faster R-CNN."""
    body = pyramid((1, 2, 3, 4), LastLevelMaxPool())
    head_channels = whole_number(name, args, "head_channels", 1024, 1, 1 << 14)
    proposals = whole_number(name, args, "proposals", 100, 1, 1 << 14)
    model: nn.Module = detection.FasterRCNN(
        body,
        rpn_anchor_generator=_anchors(name, args, (32, 64, 128, 256, 512)),
        rpn_post_nms_top_n_test=proposals,
        rpn_pre_nms_top_n_test=max(1000, proposals),
        box_roi_pool=RoiPool([str(level) for level in range(4)], _ROI_PX, sampling_ratio=2),
        box_head=TwoMLPHead(fpn_channels(name, args) * _ROI_PX**2, head_channels),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(head_channels, outputs + 1),
        box_score_thresh=SCORE_FLOOR,
        box_nms_thresh=WINDOW_IOU,
        box_detections_per_img=detections(name, args),
        box_batch_size_per_image=whole_number(name, args, "rois", 512, 1, 1 << 14),
    )
    # Label 0 is the background.
    model.first_label = 1  # type: ignore[assignment]
    return model


def retinanet(name: str, pyramid: Pyramid, outputs: int, args: Arguments) -> nn.Module:
    """Return a RetinaNet."""
    channels = fpn_channels(name, args)
    anchors = _anchors(name, args, (32, 64, 128, 256, 512), octaves=3)
    model: nn.Module = detection.RetinaNet(
        pyramid((2, 3, 4), LastLevelP6P7(channels, channels)),
        outputs,
        anchor_generator=anchors,
        head=RetinaNetHead(channels, anchors.num_anchors_per_location()[0], outputs, norm_layer=_head_norm),
        score_thresh=SCORE_FLOOR,
        nms_thresh=WINDOW_IOU,
        detections_per_img=detections(name, args),
    )
    model.first_label = 0  # type: ignore[assignment]
    return model


def fcos(name: str, pyramid: Pyramid, outputs: int, args: Arguments) -> nn.Module:
    """Return an FCOS."""
    channels = fpn_channels(name, args)
    head = FCOSHead(32, 1, outputs)
    # With the normalisation of torchvision's, a level of one pixel cannot be trained on when there are 32 channels.
    head.classification_head = FCOSClassificationHead(channels, 1, outputs, norm_layer=_head_norm)
    head.regression_head = FCOSRegressionHead(channels, 1, norm_layer=_head_norm)
    model: nn.Module = detection.FCOS(
        pyramid((2, 3, 4), LastLevelP6P7(channels, channels)),
        outputs,
        anchor_generator=_anchors(name, {**args, "aspect_ratios": [1.0]}, (8, 16, 32, 64, 128)),
        head=head,
        score_thresh=SCORE_FLOOR,
        nms_thresh=WINDOW_IOU,
        detections_per_img=detections(name, args),
    )
    model.first_label = 0  # type: ignore[assignment]
    return model


HEADS: Mapping[str, Callable[[str, Pyramid, int, Arguments], nn.Module]] = {
    "fasterrcnn": faster_rcnn,
    "retinanet": retinanet,
    "fcos": fcos,
}
"""By the first word of a model's name: called with the name, the maker of the pyramid, the number of classes and
`model_args`."""


def fpn_channels(name: str, args: Arguments) -> int:
    """Return the channels of the levels of the pyramid."""
    return whole_number(name, args, "fpn_channels", 256, 2, 1 << 12)


def detections(name: str, args: Arguments) -> int:
    """Return how many boxes a chip may have."""
    return whole_number(name, args, "detections", 300, 1, 1 << 16)


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
