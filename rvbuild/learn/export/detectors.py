"""The built-in detectors as plain tensors: all candidate boxes with their scores, which can be exported.

torchvision's detectors choose boxes image by image, with as many of them as there happen to be, and cannot be exported
as they are. Here they compute as many candidates for every image. What is chosen of these is decided by
`rvbuild.tasks.detection.candidates`, with numpy.

The output is that of Ultralytics' networks, which QGIS Deepness and GeoDeep read: `(N, 4 + K, A)`, of each candidate
centre x, centre y, width and height in pixels, and the score of each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image
from torchvision.ops import roi_align as torchvision_roi_align

from rvbuild.errors import ModelError
from rvbuild.learn.models.detectors.parts import AsItIs

Reading = dict[str, Any]
"""How candidates become boxes; see `rvbuild.tasks.detection.candidates.Reading`."""


def candidates_of(model: nn.Module, name: str, bands: int, chip_px: int) -> tuple[nn.Module, Reading]:
    """Return a network of all candidates of a detector, and how boxes are chosen from them.

    Parameters
    ----------
    model
        A detector of `rvbuild.learn.models`, in eval mode on the CPU.
    name
        Its name, for messages.
    bands, chip_px
        Of the images.

    Raises
    ------
    ModelError
        It is another detector.
    """
    for kind, network in _NETWORKS.items():
        if type(model) is kind:
            made: _Candidates = network(model, bands, chip_px)
            return made, made.reading()
    raise ModelError(f'the model "{name}" cannot be exported as ONNX: of detectors, the built-in ones can')


class _Candidates(nn.Module):
    """A detector with anchors for one size of images."""

    anchors: torch.Tensor
    """(A, 4) of all levels."""

    def __init__(self, model: nn.Module, bands: int, chip_px: int) -> None:
        super().__init__()
        self.model: Any = model
        self.side = chip_px
        image = torch.zeros(1, bands, chip_px, chip_px)
        with torch.inference_mode():
            features = self.features(image)
        anchors = self._anchor_generator()(ImageList(self._padded(image), [(chip_px, chip_px)]), features)[0]
        self.register_buffer("anchors", anchors.clone(), persistent=False)
        self.counts = self._counts(features)
        self.shapes = [tuple(level.shape[-2:]) for level in features]

    def _anchor_generator(self) -> Any:
        return self.model.anchor_generator

    def _counts(self, features: list[torch.Tensor]) -> list[int]:
        """Return the number of anchors of each level."""
        places = self._anchor_generator().num_anchors_per_location()
        return [int(level.shape[-2] * level.shape[-1] * count) for level, count in zip(features, places, strict=True)]

    def _padded(self, images: torch.Tensor) -> torch.Tensor:
        transform = self.model.transform
        return transform.padded(images) if isinstance(transform, AsItIs) else images

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the levels of the backbone."""
        features = self.model.backbone(self._padded(images))
        return [features] if isinstance(features, torch.Tensor) else list(features.values())

    def reading(self) -> Reading:
        """Return how boxes are chosen from the candidates."""
        return {
            "parts": [],
            "most": None,
            "of": "level",
            "score_thresh": float(self.model.score_thresh),
            "merge_thresh": float(self.model.nms_thresh),
            "detections": int(self.model.detections_per_img),
            "smallest_px": 0.0,
        }

    def output(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return boxes (N, A, 4) and scores (N, A, K) as one tensor."""
        boxes = clip_boxes_to_image(boxes, (self.side, self.side))
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat([(low + high) / 2, high - low, scores], dim=2).transpose(1, 2)


class _RetinaNet(_Candidates):
    def reading(self) -> Reading:
        return {**super().reading(), "parts": self.counts, "most": int(self.model.topk_candidates)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        heads = self.model.head(self.features(images))
        boxes = _decoded(self.model.box_coder, heads["bbox_regression"], self.anchors)
        return self.output(boxes, torch.sigmoid(heads["cls_logits"]))


class _FCOS(_Candidates):
    def reading(self) -> Reading:
        return {**super().reading(), "parts": self.counts, "most": int(self.model.topk_candidates)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        heads = self.model.head(self.features(images))
        scores = torch.sqrt(torch.sigmoid(heads["cls_logits"]) * torch.sigmoid(heads["bbox_ctrness"]))
        centers = (self.anchors[:, :2] + self.anchors[:, 2:]) / 2
        sides = self.anchors[:, 2:] - self.anchors[:, :2]
        offsets = heads["bbox_regression"]
        if self.model.box_coder.normalize_by_size:
            offsets = offsets * torch.cat([sides, sides], dim=1)
        boxes = torch.cat([centers - offsets[..., :2], centers + offsets[..., 2:]], dim=2)
        return self.output(boxes, scores)


class _SSD(_Candidates):
    def reading(self) -> Reading:
        return {**super().reading(), "of": "class", "most": int(self.model.topk_candidates)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        heads = self.model.head(self.features(images))
        boxes = _decoded(self.model.box_coder, heads["bbox_regression"], self.anchors)
        return self.output(boxes, torch.softmax(heads["cls_logits"], dim=-1)[..., 1:])


class _FasterRCNN(_Candidates):
    """The candidates are the proposals, once for each class."""

    def _anchor_generator(self) -> Any:
        return self.model.rpn.anchor_generator

    def reading(self) -> Reading:
        heads = self.model.roi_heads
        return {
            "parts": [],
            "most": None,
            "of": "level",
            "score_thresh": float(heads.score_thresh),
            "merge_thresh": float(heads.nms_thresh),
            "detections": int(heads.detections_per_img),
            "smallest_px": 0.01,
        }

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features, heads = self.features(images), self.model.roi_heads
        proposals, real = self._proposals(features)
        count = proposals.shape[1]
        pooled = self._pooled(features, proposals)
        logits, offsets = heads.box_predictor(heads.box_head(pooled))
        classes = logits.shape[1] - 1
        scores = torch.softmax(logits, dim=-1)[:, 1:].reshape(-1, count, classes) * real.unsqueeze(2)
        flat = _decoded_flat(heads.box_coder, offsets, proposals.reshape(-1, 4))
        boxes = flat.reshape(-1, count, classes + 1, 4)[:, :, 1:].reshape(-1, count * classes, 4)
        # Each candidate has the score of its own class.
        own = torch.eye(classes).reshape(1, 1, classes, classes)
        return self.output(boxes, (scores.unsqueeze(3) * own).reshape(-1, count * classes, classes))

    def _proposals(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best proposals, (N, P, 4), and which of them there are, (N, P): 1 or 0."""
        rpn = self.model.rpn
        objectness, offsets = rpn.head(features)
        first, boxes_of, scores_of = 0, [], []
        for count, scores, shifts in zip(self.counts, objectness, offsets, strict=True):
            scores = scores.permute(0, 2, 3, 1).reshape(-1, count)
            # (N, A * 4, H, W): the four of an anchor lie beside each other.
            shifts = shifts.reshape(shifts.shape[0], -1, 4, shifts.shape[2], shifts.shape[3])
            shifts = shifts.permute(0, 3, 4, 1, 2).reshape(-1, count, 4)
            boxes = _decoded(rpn.box_coder, shifts, self.anchors[first : first + count])
            first += count
            scores, best = scores.topk(min(rpn.pre_nms_top_n(), count), dim=1)
            boxes = boxes.gather(1, best.unsqueeze(2).expand(-1, -1, 4))
            boxes = clip_boxes_to_image(boxes, (self.side, self.side))
            solid = ((boxes[..., 2:] - boxes[..., :2]) >= rpn.min_size).all(dim=2)
            scores = torch.where(solid, scores, torch.full_like(scores, _NEVER))
            stays = kept(boxes, scores, rpn.nms_thresh)
            boxes_of.append(boxes)
            scores_of.append(torch.where(stays, scores, torch.full_like(scores, _NEVER)))
        every, scores = torch.cat(boxes_of, dim=1), torch.cat(scores_of, dim=1)
        scores, best = scores.topk(min(rpn.post_nms_top_n(), scores.shape[1]), dim=1)
        return every.gather(1, best.unsqueeze(2).expand(-1, -1, 4)), (scores > _NEVER / 2).to(every.dtype)

    def _pooled(self, features: list[torch.Tensor], proposals: torch.Tensor) -> torch.Tensor:
        """Return the features of all proposals, (N * P, channels, px, px), each from the level of its size."""
        pool = self.model.roi_heads.box_roi_pool
        levels = features[: len(pool.featmap_names)]
        scales = pool.scales or [
            2.0 ** round(math.log2(height / self.side)) for height, _ in self.shapes[: len(levels)]
        ]
        areas = (proposals[..., 2] - proposals[..., 0]) * (proposals[..., 3] - proposals[..., 1])
        level = torch.floor(pool.canonical_level + torch.log2(torch.sqrt(areas) / pool.canonical_scale) + 1e-6)
        lowest = int(-math.log2(scales[0]))
        level = torch.clamp(level, lowest, int(-math.log2(scales[-1]))).reshape(-1) - lowest
        count = proposals.shape[1]
        image = torch.arange(proposals.shape[0], dtype=proposals.dtype).unsqueeze(1).expand(-1, count)
        rois = torch.cat([image.reshape(-1, 1), proposals.reshape(-1, 4)], dim=1)
        pooled = torch.zeros(())
        for number, (features_of, scale) in enumerate(zip(levels, scales, strict=True)):
            part = torchvision_roi_align(features_of, rois, pool.output_size, scale, pool.sampling_ratio)
            part = part * (level == number).to(part.dtype).reshape(-1, 1, 1, 1)
            pooled = part if number == 0 else pooled + part
        return pooled


_NEVER = -1e30
"""The score of what is no proposal."""

_NETWORKS: Mapping[type, type[_Candidates]] = {
    detection.RetinaNet: _RetinaNet,
    detection.FCOS: _FCOS,
    detection.ssd.SSD: _SSD,
    detection.FasterRCNN: _FasterRCNN,
}


def _decoded(coder: Any, offsets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Return the boxes (N, A, 4) of the offsets (N, A, 4) from anchors (A, 4), as torchvision decodes them."""
    sides = anchors[:, 2:] - anchors[:, :2]
    return _boxes(coder, offsets, anchors[:, :2] + 0.5 * sides, sides)


def _decoded_flat(coder: Any, offsets: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the boxes (n, k, 4) of the offsets (n, k * 4) from one place (n, 4) each."""
    sides = (places[:, 2:] - places[:, :2]).unsqueeze(1)
    centers = places[:, :2].unsqueeze(1) + 0.5 * sides
    return _boxes(coder, offsets.reshape(offsets.shape[0], -1, 4), centers, sides)


def _boxes(coder: Any, offsets: torch.Tensor, centers: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    x, y, width, height = coder.weights
    centers = offsets[..., :2] / torch.tensor([x, y]) * sides + centers
    log_sides = torch.clamp(offsets[..., 2:] / torch.tensor([width, height]), max=coder.bbox_xform_clip)
    half = 0.5 * (torch.exp(log_sides) * sides)
    return torch.cat([centers - half, centers + half], dim=-1)


@torch.library.custom_op("rvbuild::kept", mutates_args=())
def kept(boxes: torch.Tensor, scores: torch.Tensor, merge_thresh: float) -> torch.Tensor:
    """Return which boxes (N, A, 4) non-maximum suppression keeps, (N, A) bool: each image for itself."""
    count = boxes.shape[1]
    image = torch.arange(boxes.shape[0]).unsqueeze(1).expand(-1, count).reshape(-1)
    stays = torch.zeros(boxes.shape[0] * count, dtype=torch.bool)
    stays[batched_nms(boxes.reshape(-1, 4), scores.reshape(-1), image, merge_thresh)] = True
    return stays.reshape(-1, count)


@kept.register_fake
def _kept_shape(boxes: torch.Tensor, scores: torch.Tensor, merge_thresh: float) -> torch.Tensor:
    stays: torch.Tensor = scores.new_empty(scores.shape, dtype=torch.bool)
    return stays


def translations() -> Mapping[Any, Callable[..., Any]]:
    """Return the functions of onnxscript for the operators of this module."""
    from onnxscript import opset18

    op: Any = opset18  # its types do not know numbers and lists in the place of tensors

    def translate(boxes: Any, scores: Any, merge_thresh: float) -> Any:
        most = op.Constant(value_ints=[(1 << 62)])
        chosen = op.NonMaxSuppression(
            boxes, op.Unsqueeze(scores, [1]), most, op.Constant(value_floats=[float(merge_thresh)])
        )
        where = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        ones = op.Expand(op.Constant(value_floats=[1.0]), op.Slice(op.Shape(where), [0], [1]))
        return op.Cast(op.ScatterND(op.Mul(scores, op.Constant(value_float=0.0)), where, ones), to=9)

    return {torch.ops.rvbuild.kept.default: translate}
