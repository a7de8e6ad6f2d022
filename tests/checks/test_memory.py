"""What models take of memory."""

from __future__ import annotations

import pytest

from rvbuild.checks.memory import measure

UNET = ("semantic_segmentation", "unet", {"width": 4, "depth": 2}, 3, 2)


def test_chips_take_more_the_larger_they_are() -> None:
    small, large = measure(*UNET, 64, "cpu"), measure(*UNET, 256, "cpu")
    assert small is not None and large is not None
    assert small["weights"] == large["weights"] > 0
    assert 10 < large["train"] / small["train"] < 20
    # Of 4 channels at full size some six tensors are kept for the gradients, and the scores.
    assert 4 * 4 * 256**2 * 4 < large["train"] < 4 * 4 * 256**2 * 30
    assert 0 < large["predict"] < large["train"]


def test_networks_of_an_ensemble_predict_at_the_same_time_and_learn_from_chips_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "2")
    task, model, args, *images = UNET
    single = measure(task, model, args, *images, 64, "cpu")
    three = measure(task, model, {**args, "ensemble": [1, 1, 1]}, *images, 64, "cpu")
    assert single is not None and three is not None
    assert 0.9 < three["train"] / single["train"] < 1.5
    assert three["weights"] == 3 * single["weights"] and three["predict"] == 2 * single["predict"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model"), [("chip_classification", "cnn"), ("object_detection", "fasterrcnn_mobilenet_v3_large_fpn")]
)
def test_other_tasks(task: str, model: str) -> None:
    need = measure(task, model, {}, 4, 3, 64, "auto")
    assert need is not None and need["train"] > need["predict"] > 0


@pytest.mark.slow
def test_what_cannot_be_known() -> None:
    assert measure("semantic_segmentation", "mine.models:make", {}, 3, 2, 64, "cpu") is None
    assert measure("semantic_segmentation", "unet", {"no": 1}, 3, 2, 64, "cpu") is None
    assert measure("chip_classification", "vit_b_16", {}, 3, 2, 64, "cpu") is None, "it takes images of one size"
    assert measure("semantic_segmentation", "unet", {}, 3, 2, 64, "cuda:99") is None
