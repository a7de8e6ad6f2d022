"""Chips mixed with others: pixels, labels and their shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from rvbuild.learn.chips.mixing import Mixed, Mixer
from rvbuild.learn.hooks import Sample
from rvbuild.learn.losses.make import make_loss
from rvbuild.learn.losses.points import IGNORE
from rvbuild.stages.train.chips import augmented_ops
from rvbuild.tasks.class_objective import ClassObjective
from rvbuild.tasks.classification import task as classification
from rvbuild.tasks.segmentation import task as segmentation

SIZE = 16


def pixels(count: int = 6) -> list[Sample]:
    """Return chips whose labels are their values."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 250, (count, SIZE, SIZE)).astype(np.uint8)
    return [Sample(np.stack([each, 255 - each]), None, {"labels": each}) for each in labels]


def cells(count: int = 6) -> list[Sample]:
    return [
        Sample(np.full((2, SIZE, SIZE), 40 * n, np.uint8), None, {"classes": np.array(n, np.uint8)})
        for n in range(count)
    ]


def mixed(task: Any, name: str, samples: list[Sample], **args: float) -> tuple[Mixer, list[Mixed]]:
    given = {name: {"probability": 1.0, "alpha": 1.0, **args}}
    mixer = Mixer([name], given, augmented_ops(task, 1, None))
    return mixer, mixer(samples, [(0, 1, number) for number in range(len(samples))])


def test_cutmix_pastes_pixels_with_their_labels() -> None:
    samples = pixels()
    mixer, results = mixed(segmentation, "cutmix", samples)
    changed = 0
    for own, other, result in zip(samples, [*samples[1:], samples[0]], results, strict=True):
        image, labels = result.sample.image, result.sample.target["labels"]
        assert np.array_equal(image[0], labels) and np.array_equal(image[1], 255 - labels) and result.share == 1
        pasted = labels != own.target["labels"]
        assert np.array_equal(labels[pasted], other.target["labels"][pasted])
        changed += pasted.any()
    assert changed > 3
    assert set(mixer.targets(results)) == {"labels"}
    assert np.array_equal(samples[0].image, pixels()[0].image), "chips are maps of files, which nobody may change"


def test_cutmix_pastes_null_with_the_pixels() -> None:
    samples = pixels(2)
    samples[1] = Sample(samples[1].image, np.zeros((2, SIZE, SIZE), dtype=bool), samples[1].target)
    _, (result, _) = mixed(segmentation, "cutmix", samples)
    pasted = result.sample.target["labels"] == samples[1].target["labels"]
    valid = result.sample.valid
    assert valid is not None and not valid.all() and valid.any()
    assert pasted[~valid[0]].all()


def test_cutmix_of_chips_mixes_classes_by_area() -> None:
    samples = cells()
    mixer, results = mixed(classification, "cutmix", samples)
    for own, other, result in zip(samples, [*samples[1:], samples[0]], results, strict=True):
        image = result.sample.image[0]
        assert result.share == pytest.approx((image == own.image[0]).mean())
        assert result.sample.target is own.target and result.other is other.target
    targets = mixer.targets(results)
    assert targets["classes"].tolist() == [0, 1, 2, 3, 4, 5] and targets["other_classes"].tolist() == [1, 2, 3, 4, 5, 0]
    assert torch.allclose(targets["share"], torch.tensor([each.share for each in results]))


def test_mixup_is_the_weighted_mean_and_null_is_no_value() -> None:
    samples = pixels(3)
    valid = np.ones((2, SIZE, SIZE), dtype=bool)
    valid[:, :4] = False
    samples[1] = Sample(np.where(valid, samples[1].image, 0), valid, samples[1].target)
    _, (result, _, _) = mixed(segmentation, "mixup", samples)
    mean = np.rint(result.share * samples[0].image + (1 - result.share) * samples[1].image)
    assert np.array_equal(result.sample.image[:, 4:], mean[:, 4:])
    assert np.array_equal(result.sample.image[:, :4], samples[0].image[:, :4]) and result.sample.valid is None
    assert result.other is samples[1].target


def test_seeds_decide_and_chips_are_mixed_once_at_most() -> None:
    samples = cells()
    mixer = Mixer(["mixup", "cutmix"], {}, augmented_ops(classification, 1, None))

    def shares(epoch: int) -> list[float]:
        return [each.share for each in mixer(samples * 30, [(0, epoch, number) for number in range(180)])]

    assert shares(1) == shares(1) != shares(2)
    # One half is mixed up, and one half of the rest is cut.
    assert 0.15 < np.mean(np.array(shares(1)) == 1) < 0.35


class Fixed(nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("name", ["cross_entropy", "label_smoothing", "focal"])
def test_a_loss_of_mixed_labels_is_the_sum_by_share(name: str, per_pixel: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    shape = (4, 5, 5) if per_pixel else (4,)
    logits = torch.randn((4, 3, 5, 5) if per_pixel else (4, 3), generator=rng)
    one, other = (torch.randint(0, 3, shape, generator=rng).to(torch.uint8) for _ in range(2))
    share = torch.tensor([1.0, 0.25, 0.5, 0.0])
    loss = make_loss(name, {}, None)
    target = "labels" if per_pixel else "classes"
    objective = ClassObjective(loss, ["a", "b", "c"], [0, 1, 2], lambda model, images, outputs=None: logits, target)
    targets = {target: one, f"other_{target}": other, "share": share}
    value = objective.loss(Fixed(logits), torch.zeros(4, 1), targets)
    each = [
        share[n] * loss(logits[n : n + 1], one[n : n + 1].long())
        + (1 - share[n]) * loss(logits[n : n + 1], other[n : n + 1].long())
        for n in range(4)
    ]
    assert value.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)
    if name == "cross_entropy" and not per_pixel:
        soft = share[:, None] * functional.one_hot(one.long(), 3) + (1 - share[:, None]) * functional.one_hot(
            other.long(), 3
        )
        assert value.item() == pytest.approx(functional.cross_entropy(logits, soft).item(), rel=1e-5)


def test_unlabelled_pixels_and_class_weights_of_mixed_labels() -> None:
    logits, weights = torch.randn((2, 2, 3), generator=torch.Generator().manual_seed(1)), [1.0, 3.0]
    target = torch.tensor([[0, 1, IGNORE], [1, IGNORE, IGNORE]])
    shares = torch.tensor([0.25, 0.75])
    value = make_loss("cross_entropy", {}, weights)(logits, target, shares)
    each = functional.cross_entropy(logits, target.clamp_min(0), reduction="none")
    of_points = torch.tensor([[1.0, 3, 0], [3, 0, 0]]) * shares[:, None]
    assert value.item() == pytest.approx(((each * of_points).sum() / of_points.sum()).item(), rel=1e-5)
    nothing = make_loss("cross_entropy", {}, None)(logits, torch.full((2, 3), IGNORE), shares)
    assert nothing.item() == 0
