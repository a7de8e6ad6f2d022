"""Seeded scenes, models and settings at tiny sizes, for the tests of the stages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine

from rvbuild import tasks
from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Progress, Silent
from rvbuild.stages import infer, predict

CLASSES = [
    {"id": 0, "name": "car", "color": "#ffff00"},
    {"id": 1, "name": "tree", "color": "#00ff00"},
    {"id": 2, "name": "null", "color": "#000000"},
]
NULL = 2
TRANSFORM = Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)
CRS = "EPSG:32633"

LABELS = {"kind": "raster", "encoding": "id", "map": None, "other": "error", "nodata": 255, "resample": "error"}
CHIP = {
    "size_px": 16,
    "stride_px": 16,
    "method": "sliding",
    "per_scene": 10,
    "size_limits_px": None,
    "within_aoi": True,
    "max_nodata": 1.0,
    "keep": None,
}
PREDICT = {
    "stride_px": 8,
    "batch_size": 4,
    "blend": "mean",
    "scores": False,
    "rgb": False,
    "vectors": [],
    "device": "cpu",
}


def write_raster(path: Path, array: np.ndarray, *, crs: str | None = CRS, **profile: Any) -> Path:
    """Write an array (C, H, W), or (H, W) as one band; without a CRS not georeferenced at all."""
    bands = array if array.ndim == 3 else array[None]
    where = {} if crs is None else {"crs": crs, "transform": TRANSFORM}
    count, height, width = bands.shape
    with (
        rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, **where, **profile
        ) as file,
    ):
        file.write(bands)
    return path


def write_aoi(path: Path, *boxes: tuple[float, float, float, float], crs: str | None = CRS) -> Path:
    """Write boxes (row, col, row stop, col stop) in pixels as the polygons of an area of interest."""
    features = []
    for row, col, row_stop, col_stop in boxes:
        corners = [(col, row), (col_stop, row), (col_stop, row_stop), (col, row_stop), (col, row)]
        ring = [(400_000 + 0.5 * x, 5_800_000 - 0.5 * y) if crs else (x, y) for x, y in corners]
        features.append({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs.replace(':', '::')}"}}
    path.write_text(json.dumps(content))
    return path


def image_array(height: int, width: int, *, bands: int = 3, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Return blotchy imagery (C, H, W) without zeros."""
    random = np.random.default_rng(seed)
    coarse = random.integers(1, 200, (bands, -(-height // 4), -(-width // 4)))
    fine = np.kron(coarse, np.ones((4, 4)))[:, :height, :width] + random.integers(0, 50, (bands, height, width))
    return fine.astype(dtype)


def label_array(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return class ids (H, W) uint8 in patches, some of them null."""
    coarse = np.random.default_rng(seed + 1).choice([0, 1, 1, NULL], (-(-height // 5), -(-width // 5)))
    return np.kron(coarse, np.ones((5, 5))).astype(np.uint8)[:height, :width]


def chip_settings(**chip: Any) -> dict[str, Any]:
    """Return settings of the chip stage; keywords change its `chip` table."""
    return {
        "task": "semantic_segmentation",
        "scene": "a",
        "image": {"nodata": None},
        "channels": None,
        "labels": LABELS,
        "classes": CLASSES,
        "null_id": NULL,
        "chip": {**CHIP, **chip},
        "seed": 7,
    }


def predict_settings(chip_px: int = 16, **predict: Any) -> dict[str, Any]:
    """Return settings of the stages infer and predict; keywords change the `predict` table."""
    return {
        "task": "semantic_segmentation",
        "image": {"nodata": None},
        "channels": None,
        "classes": CLASSES,
        "null_id": NULL,
        "chip_px": chip_px,
        "predict": {**PREDICT, **predict},
    }


def predict_scene(
    inputs: dict[str, list[Path]], settings: dict[str, Any], outputs: Path, progress: Progress | None = None
) -> Path:
    """Run the stages infer and predict into one directory, which shows what the two show; return it."""
    infer.run(inputs, settings, outputs, progress or Silent())
    raw = [outputs / name for name in tasks.get(settings["task"]).RAW]
    scores = [path for path in [outputs / "scores.tif"] if path.exists()]
    predict.run({"raw": [*raw, *scores]}, settings, outputs, Silent())
    return outputs


def write_model(folder: Path, *, bands: int = 3, dtype: str = "uint8", chip_px: int = 16, seed: int = 0) -> list[Path]:
    """Write a small U-Net with random weights; return its two files."""
    folder.mkdir(parents=True, exist_ok=True)
    args = {"width": 4, "depth": 2}
    normalize: dict[str, Any] = {"kind": "scale", "max": 255}
    if dtype != "uint8":
        normalize = {"kind": "zscore", "mean": [100.0] * bands, "std": [60.0] * bands, "max_stds": 3.0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build("semantic_segmentation", "unet", bands=bands, outputs=2, args=args).eval()
        # Both classes are to be predicted, and not by a hair's breadth.
        head = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        assert head.bias is not None
        with torch.no_grad():
            head.weight *= 50
            head.bias -= model(torch.rand(4, bands, 32, 32)).mean(dim=(0, 2, 3))
    info = ModelInfo(
        task="semantic_segmentation",
        model="unet",
        model_args=args,
        bands=bands,
        dtype=dtype,
        outputs=["car", "tree"],
        classes=CLASSES,
        null_id=NULL,
        chip_px=chip_px,
        normalize=normalize,
    )
    save_model(folder, model.state_dict(), info)
    return [folder / "model.safetensors", folder / "model.json"]


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file in a directory by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def empty(folder: Path) -> Path:
    """Make an empty directory."""
    folder.mkdir(parents=True)
    return folder
