"""Object detection: merging the boxes of a scene, prediction against a bare loop of the detector, and evaluation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
import torch

from benchmarks.bar import Cost, Figure, cpu_seconds, interleaved
from benchmarks.command import in_child, peak_rss_mb
from benchmarks.scenes import CLASSES, NULL_ID, write_raster
from benchmarks.stage import predict_settings, random_model, run_stage

TASK = "object_detection"
MODEL, CHIP_PX, BATCH = "fasterrcnn_resnet18_fpn", 256, 8
SPEED_PX = 6 * CHIP_PX
MANY = 200_000
EVALUATED = 10_000
OBJECT_PX = 30.0
THRESH = 0.5


def run(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True)
    return [*_merge(), _predict(folder / "predict"), _evaluate(folder / "evaluate")]


def boxes_of(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (float32), scores and classes as overlapping windows give them: each object is seen four times."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(count / 4) * OBJECT_PX * 1.5
    corners = rng.uniform(0, side, (count // 4, 2))
    objects = np.concatenate([corners, corners + rng.uniform(0.6, 1.4, corners.shape) * OBJECT_PX], axis=1)
    boxes = (np.repeat(objects, 4, axis=0) + rng.normal(0, 2, (count, 4))).astype(np.float32)
    return boxes, rng.uniform(0.05, 1, count).astype(np.float32), np.repeat(rng.integers(0, 3, count // 4), 4)


def _merge() -> list[Figure]:
    result = in_child(__name__, "merge")
    kept = "the same" if result["same"] else "NOT the same"
    note = (
        f"{result['kept']:.0f} of {MANY} boxes kept, {kept} as batched_nms keeps, which takes {result['theirs']:.1f} s"
    )
    growth = Figure("merge of boxes, growth of peak RSS", result["rss_mb"], 300, "MB", True, f"{MANY} boxes")
    spent = result["seconds"] if result["same"] else float("inf")
    cost = Cost("merge", result["seconds"], result["theirs"])
    return [Figure(f"merge of {MANY} boxes", spent, 1, "s", True, note, cost), growth]


def _merge_main() -> None:
    from torchvision.ops import nms as theirs

    from rvbuild.geo.vector.boxes import nms

    boxes, scores, classes = boxes_of(MANY)
    nms(*boxes_of(1000), THRESH)
    before = peak_rss_mb()
    spent = min(cpu_seconds(lambda: nms(boxes, scores, classes, THRESH)) for _ in range(3))
    rss = peak_rss_mb() - before
    kept = set(nms(boxes, scores, classes, THRESH).tolist())
    expected: set[int] = set()

    def all_classes() -> None:
        # What batched_nms does with so many boxes: each class for itself.
        for class_id in np.unique(classes):
            own = np.flatnonzero(classes == class_id)
            expected.update(own[theirs(torch.from_numpy(boxes[own]), torch.from_numpy(scores[own]), THRESH)].tolist())

    took = cpu_seconds(all_classes)
    print(json.dumps({"seconds": spent, "rss_mb": rss, "kept": len(kept), "same": kept == expected, "theirs": took}))


def _predict(folder: Path) -> Figure:
    from rvbuild.cores import thread_count
    from rvbuild.learn.checkpoint import load_model

    folder.mkdir(parents=True)
    files = random_model(folder / "model", TASK, MODEL, CHIP_PX)
    settings = predict_settings(CHIP_PX, CHIP_PX, "none")
    settings["task"] = TASK
    image = write_raster(folder / "image.tif", SPEED_PX, 3, 256)
    with rasterio.open(image) as file:
        pixels = file.read()
    steps = SPEED_PX // CHIP_PX
    windows = (
        pixels.reshape(3, steps, CHIP_PX, steps, CHIP_PX).transpose(1, 3, 0, 2, 4).reshape(-1, 3, CHIP_PX, CHIP_PX)
    )
    batches = [
        (torch.from_numpy(np.ascontiguousarray(windows[start : start + BATCH])).float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        for start in range(0, len(windows), BATCH)
    ]
    # The model as the stage has it, so that only what the stage adds is measured.
    model, _ = load_model(*files, device="cpu")
    torch.set_num_threads(thread_count())

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(list(batch))

    def stage() -> float:
        return cpu_seconds(lambda: run_stage("infer", {"image": [image], "model": files}, settings, folder / "out"))

    bare, ours = interleaved(3, lambda: cpu_seconds(forward), stage)
    note = (
        f"{len(windows) / ours:.1f} against {len(windows) / bare:.1f} windows/s, {MODEL}, {CHIP_PX} px, batch {BATCH}"
    )
    cost = Cost("window", ours / len(windows), bare / len(windows))
    return Figure("detection, CPU over a bare loop", ours / bare, 1.05, "", True, f"{note}; reads included", cost)


def _evaluate(folder: Path) -> Figure:
    folder.mkdir(parents=True)
    result = in_child(__name__, "evaluate", str(folder))
    note = f"{EVALUATED} boxes against {EVALUATED // 2} labels, mean AP {result['ap']:.3f}"
    return Figure("eval of boxes", result["seconds"], 2, "s", True, note, Cost("scene", result["seconds"]))


def _evaluate_main(folder: Path) -> None:
    from affine import Affine

    from rvbuild.geo.grid import Grid
    from rvbuild.tasks.detection.boxes import Detections, write_detections

    boxes, scores, classes = boxes_of(EVALUATED)
    classes = np.where(classes == NULL_ID, 0, classes)
    order = np.argsort(-scores, kind="stable")
    side = int(boxes.max()) + 1
    image = {"predictions": [folder / "detections.json"], "labels": [folder / "labels.csv"]}
    grid = Grid(side, side, Affine.identity(), None)
    detections = Detections(
        grid, 0.5, boxes[order].clip(0).astype(np.float64), classes[order], scores[order].astype(np.float64)
    )
    write_detections(folder / "detections.json", detections)
    names = [str(item["name"]) for item in CLASSES]
    rows = [
        f"x,{','.join(f'{v:.3f}' for v in box)},{names[c]}"
        for box, c in zip(boxes[::2].clip(0), classes[::2], strict=True)
    ]
    (folder / "labels.csv").write_text("image_path,xmin,ymin,xmax,ymax,label\n" + "\n".join(rows) + "\n")
    labels = {"kind": "csv", "image": None, "scene_image": "x", "class": None, "class_map": None, "unknown": "error"}
    common = {"task": TASK, "classes": CLASSES, "null_id": NULL_ID}
    settings = {**common, "scene": "bench", "labels": labels, "eval": {"iou_thresh": 0.5}}

    def both() -> None:
        single = run_stage("evaluate.scene", image, settings, folder / "one")
        run_stage("evaluate.merge", {"eval/bench": [single / "eval.json"]}, common, folder / "all")

    spent = cpu_seconds(both)
    overall = json.loads((folder / "all" / "eval.json").read_text())["summary"]["overall"]
    print(json.dumps({"seconds": spent, "ap": overall["mean_ap"]}))


if __name__ == "__main__":
    if sys.argv[1] == "merge":
        _merge_main()
    else:
        _evaluate_main(Path(sys.argv[2]))
