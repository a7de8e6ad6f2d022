"""An exported ensemble is what torch computes, with networks side by side."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from rvbuild.learn.export.graph import export
from rvbuild.learn.export.inputs import as_input
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.models import build
from rvbuild.learn.normalize import Normalizer
from tests.learn.threads import threads

SIDE = 32


@pytest.mark.slow
def test_networks_that_look_at_several_scales_are_exported(tmp_path):
    args = {"width": 4, "depth": 2, "ensemble": [[0.5, 0.375, 0.65], 1, [0.7, 0.525]]}
    network = build("semantic_segmentation", "unet", bands=2, outputs=2, args=args, chip_px=SIDE).eval()
    normalize = {"kind": "scale", "max": 255}
    classes = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "null"}]
    info = ModelInfo("semantic_segmentation", "unet", args, 2, "uint8", ["a", "b"], classes, 2, SIDE, normalize)
    images = np.random.default_rng(0).integers(0, 256, (3, 2, SIDE, SIDE), np.uint8)
    valid = np.ones(images.shape, bool)
    with threads(2):
        content = export(network, info, "logits", {}, tmp_path)
        with torch.inference_mode():
            expected = network(Normalizer(info)(images, valid)).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": as_input(images, valid)})
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
