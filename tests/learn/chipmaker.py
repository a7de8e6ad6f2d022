"""Small chips on disk, made by seeded functions: labels in blocks, imagery that follows them."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from rvbuild.progress import Silent
from rvbuild.stages.train.chips import augmented_ops
from rvbuild.tasks.segmentation import task as task

CLASSES = [
    {"id": 0, "name": "car", "color": "#ffff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "tree", "color": "#00ff00"},
]
NULL_ID = 1
OPS = augmented_ops(task, NULL_ID, None)


class Notes(Silent):
    """Keeps what a stage says."""

    def __init__(self):
        self.notes, self.started, self.advanced = [], [], 0

    def start(self, step, total, unit):
        self.started.append((step, total, unit))

    def advance(self, n=1):
        self.advanced += n

    def note(self, message):
        self.notes.append(message)


def chip_arrays(count, *, size=16, bands=3, dtype="uint8", seed=0):
    """Return images (n, C, H, W) and labels (n, H, W): 4 px blocks of class 0, 1 (null) and 2, darker to brighter."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 2, 1], p=[0.45, 0.45, 0.1], size=(count, -(-size // 4), -(-size // 4)))
    labels = blocks.repeat(4, axis=1).repeat(4, axis=2)[:, :size, :size].astype(np.uint8)
    signal = labels[:, None] * 60.0 + 40 + rng.normal(0, 10, (count, bands, size, size))
    scale = {"uint8": 1, "uint16": 40, "float32": 0.01}[dtype]
    return (np.clip(signal, 0, 255) * scale).astype(dtype), labels


def write_chips(folder: Path, scene: str, images, labels, *, per_shard=5, valid=None, classes=CLASSES):
    """Write the chips of a scene as the chip stage does; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, start in enumerate(range(0, len(images), per_shard)):
        part = slice(start, start + per_shard)
        tensors = {
            "images": np.ascontiguousarray(images[part]),
            "windows": np.zeros((len(images[part]), 4), np.int64),
        }
        if valid is not None:
            tensors["valid"] = np.packbits(valid[part], axis=-1)
        names = {kind: f"{kind}-{number:05d}.safetensors" for kind in ("images", "labels")}
        safetensors.numpy.save_file(tensors, folder / names["images"])
        safetensors.numpy.save_file({"labels": np.ascontiguousarray(labels[part])}, folder / names["labels"])
        shards.append({**names, "count": len(images[part])})
    index = {
        "scene": scene,
        "task": "semantic_segmentation",
        "size_px": images.shape[-1],
        "dtype": str(images.dtype),
        "bands": images.shape[1],
        "classes": [entry["name"] for entry in classes],
        "count": len(images),
        "shards": shards,
        "chip_class_counts": [np.bincount(mask.ravel(), minlength=len(classes)).tolist() for mask in labels],
        "class_counts": np.bincount(labels.ravel(), minlength=len(classes)).tolist(),
    }
    (folder / "index.json").write_text(json.dumps(index))
    return sorted(folder.iterdir())


LEFT_OUT = (
    *("clip_norm", "freeze", "encoder_lr", "layer_decay", "warmup_epochs", "accumulate", "ema"),
    *("augment_args", "shards", "weights_member"),
)
"""Settings that are left out at their defaults."""


def train_settings(**changes):
    """Return settings of a training that takes less than a second."""
    train = {
        "model": "unet",
        "model_args": {"width": 4, "depth": 2},
        "pretrained": False,
        "epochs": 2,
        "batch_size": 4,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "momentum": 0.9,
        "lr": 0.01,
        "schedule": "one_cycle",
        "step_epochs": [],
        "class_weights": "none",
        "sampling": "all",
        "max_chips": None,
        "loss": "cross_entropy",
        "loss_args": {},
        "augment": ["flip", "rotate90"],
        "select": "last",
        "select_metric": "mean_iou",
        "patience": 0,
        "max_stds": 3.0,
        "device": "cpu",
        "amp": "auto",
        "workers": 0,
        "normalize": "auto",
        "checkpoints": False,
    }
    assert set(changes) <= {*train, *LEFT_OUT}, changes
    return {**train, **changes}


def stats_of(images):
    """Return the statistics of chips, as the analyze stage writes them."""
    values = images.astype(np.float64).transpose(1, 0, 2, 3).reshape(images.shape[1], -1)
    bands = [{"mean": float(band.mean()), "std": float(band.std())} for band in values]
    return {"bands": bands, "dtype": str(images.dtype)}


def state_of(seed=0):
    """Return a small state dict."""
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(3, 2, generator=generator), "b": torch.arange(4)}
