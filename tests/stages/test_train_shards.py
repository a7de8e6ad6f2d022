"""A training in shards: the same bytes for any number of processes, and one error when one of them is gone."""

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from rvbuild.errors import ModelError, StageError
from rvbuild.learn.chips.loader import Request
from rvbuild.stages.train import stage as train
from tests.learn.chipmaker import CLASSES, NULL_ID, Notes, chip_arrays, train_settings, write_chips


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("RVBUILD_THREADS", "1")


@pytest.fixture
def inputs(tmp_path):
    paths = {}
    for seed, (split, scene, count) in enumerate([("train", "b", 6), ("train", "a", 5), ("validation", "c", 5)]):
        images, labels = chip_arrays(count, seed=seed)
        labels[0, :12] = NULL_ID  # chips have different numbers of labels
        paths[f"chips/{split}/{scene}"] = write_chips(tmp_path / "chips" / scene, scene, images, labels)
    return paths


def build(folder, inputs, processes=1, resume=None, progress=None, live=None, **changes):
    """Run the stage; return the digest of each file."""
    folder.mkdir()
    settings = {
        "task": "semantic_segmentation",
        "classes": CLASSES,
        "null_id": NULL_ID,
        "chip_px": 16,
        "channels": None,
        "train": {**train_settings(**changes), "processes": processes},
        "seed": 1,
    }
    train.run(inputs, settings, folder, progress or Notes(), resume=resume, live=live)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_x(tmp_path, inputs):
    a = build(tmp_path / "one", inputs, shards=3, batch_size=6)
    t = time.time()
    b = build(tmp_path / "two", inputs, 2, shards=3, batch_size=6)
    print(time.time() - t)
    assert a == b
    print((tmp_path / "one/log.jsonl").read_text())
