"""Boxes do not move: image, labels, chips, predictions and predictions read as labels agree, and scores are perfect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import torch
from safetensors.numpy import load_file
from torch import nn

from rvbuild.geo.labels.boxes import open_boxes
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.write.vectors.features import write_features
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Silent
from rvbuild.stages import infer, predict
from rvbuild.stages.chip import stage as chip
from rvbuild.stages.evaluate import merge as evaluate_merge
from rvbuild.stages.evaluate import scene as evaluate
from rvbuild.stages.network import Network
from rvbuild.tasks.detection import task as task
from rvbuild.tasks.detection.candidates import Detected
from tests.geo.conftest import PLACES
from tests.stages.sample_scenes import CLASSES, NULL, chip_settings, empty, predict_settings

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24
BBOX = (5, 9, 78, 66)
"""Column, row, column stop, row stop: no multiple of anything."""
OBJECTS = [
    (8, 11, 17, 20, 0),
    (30, 14, 37, 26, 1),
    (52, 12, 63, 21, 0),
    (21, 33, 31, 42, 1),
    (60, 38, 70, 48, 0),
    (38, 50, 47, 62, 1),
]
"""x0, y0, x1, y1 in pixels of the whole image, odd and even, and a class id."""
LABELS = {"kind": "vector", "class": None, "class_map": None, "unknown": "error"}


def see(model: nn.Module, images: torch.Tensor) -> list[Detected]:
    """Return what the images show of bright shapes: of class 0 in the first band, of class 1 in the second."""
    boxes = []
    for image in images.numpy():
        rows = []
        for output in (0, 1):
            mask = (image[output] > 0.5).astype(np.uint8)
            for shape, _ in rasterio.features.shapes(mask, mask=mask.astype(bool)):
                x, y = np.array(shape["coordinates"][0]).T
                rows.append((x.min(), y.min(), x.max(), y.max(), output))
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        scores = np.full(len(table), 0.9, dtype=np.float32)
        boxes.append(Detected(table[:, :4].astype(np.float32), scores, table[:, 4].astype(np.int64)))
    return boxes


@pytest.mark.parametrize("bbox", [None, BBOX], ids=["whole", "bbox"])
@pytest.mark.parametrize("place", ["north-up", "south-up", "rotated", "degrees", "pixel coordinates"])
def test_the_way_from_the_image_and_back_is_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, bbox: tuple[int, ...] | None
) -> None:
    # Raster Vision writes all vectors half a pixel to the south-east, those under a `bbox` without its offset, and
    # reads its own boxes back a pixel away.
    transform, crs = PLACES[place]
    pixels = np.full((3, 75, 90), 20, dtype=np.uint8)
    for x0, y0, x1, y1, class_id in OBJECTS:
        pixels[class_id, y0:y1, x0:x1] = 200
    image = tmp_path / "image.tif"
    where = {} if transform.is_identity else {"transform": transform}
    shape = {"count": 3, "height": pixels.shape[1], "width": pixels.shape[2]}
    with (
        rasterio.open(image, "w", "GTiff", dtype="uint8", crs=crs, **shape, **where) as file,
    ):
        file.write(pixels)
    part = {"bbox": {"px": list(bbox)}} if bbox else {}
    settings: dict[str, Any] = {"task": "object_detection", "image": {"nodata": None, **part}}
    with open_scene_image([image], {**settings, "channels": None}) as source:
        grid = source.grid
    left, top = (bbox or (0, 0))[:2]
    truth = np.array(OBJECTS, dtype=np.float64)[:, :4] - [left, top, left, top]
    ids = np.array(OBJECTS)[:, 4]

    labels = tmp_path / "labels.geojson"
    names = [{"class_name": CLASSES[class_id]["name"]} for class_id in ids]
    write_features(labels, shapely.box(*truth.T), grid, names, {"class_name": str})

    chips = empty(tmp_path / "chips")
    cut = {"ioa_thresh": 1.0, "clip": False, "neg_ratio": None, "neg_ioa_thresh": 0.2}
    chip_options = {**chip_settings(size_px=SIZE, stride_px=10, **cut), **settings, "labels": LABELS}
    chip.run({"image": [image], "labels": [labels], "aoi": []}, chip_options, chips, Silent())
    check_chips(chips)

    monkeypatch.setattr(task, "forward", see)
    outputs = empty(tmp_path / "predicted")
    info = ModelInfo(task="object_detection", model="m", model_args={}, bands=3, dtype="uint8", outputs=["car", "tree"],
                     classes=CLASSES, null_id=NULL, chip_px=SIZE, normalize={"kind": "scale", "max": 255})  # fmt: skip
    merging = {"boxes": "geojson", "score_thresh": 0.5, "merge_thresh": 0.5}
    asked = {**predict_settings(SIZE, stride_px=SIZE // 2, **merging), **settings}
    infer.infer_scene(Network(nn.Identity(), info, "cpu"), [image], asked, outputs, Silent())
    predict.run({"raw": [outputs / name for name in task.RAW]}, asked, outputs, Silent())
    with open_boxes([outputs / "boxes.geojson"], LABELS, grid=grid, classes=CLASSES, null_id=NULL) as again:
        order, wanted = np.lexsort(again.boxes.T.round(3)), np.lexsort(truth.T)
        np.testing.assert_allclose(again.boxes[order], truth[wanted], atol=1e-4)
        assert again.classes[order].tolist() == ids[wanted].tolist()

    scored, merged = empty(tmp_path / "scored"), empty(tmp_path / "merged")
    chip_options = {"task": "object_detection", "scene": "a", "labels": LABELS, "classes": CLASSES, "null_id": NULL}
    chip_options["eval"] = {"iou_thresh": 0.9}
    evaluate.run(
        {"predictions": [outputs / "detections.json"], "labels": [labels], "aoi": []}, chip_options, scored, Silent()
    )
    evaluate_merge.run({"eval/a": [scored / "eval.json"]}, chip_options, merged, Silent())
    overall = json.loads((merged / "eval.json").read_text())["summary"]["overall"]
    assert overall["mean_ap"] == pytest.approx(1) and overall["f1"] == 1


def check_chips(folder: Path) -> None:
    """Compare the boxes of every chip with the pixels that they are around."""
    images, labels = load_file(folder / "images-00000.safetensors"), load_file(folder / "labels-00000.safetensors")
    assert len(labels["boxes"]) >= len(OBJECTS)
    for number, image in enumerate(images["images"]):
        start, stop = labels["offsets"][number : number + 2]
        for box, class_id in zip(labels["boxes"][start:stop], labels["classes"][start:stop], strict=True):
            x0, y0, x1, y1 = np.rint(box).astype(int)
            np.testing.assert_allclose(box, [x0, y0, x1, y1], atol=1e-4)
            bright = np.zeros(image.shape[1:], dtype=bool)
            bright[y0:y1, x0:x1] = True
            assert (image[class_id][bright] == 200).all()
            ring = np.s_[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]
            assert ((image[class_id][ring] == 200) == bright[ring]).all()
