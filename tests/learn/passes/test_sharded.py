"""What shards compute: the loss and the gradients of the whole batch, where nothing in the model mixes chips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.chips.loader import Batch, Request
from rvbuild.learn.hooks import OTHER, SHARE, Targets
from rvbuild.learn.losses.make import make_loss
from rvbuild.learn.passes.base import Data, Passes
from rvbuild.learn.passes.sharded import Sharded
from rvbuild.learn.passes.whole import Whole
from rvbuild.learn.shards.group import Alone
from rvbuild.progress import Silent
from rvbuild.tasks.class_objective import ClassObjective
from tests.learn.chipmaker import train_settings

CHIPS, PX = 11, 6
WEIGHTS = [1.0, 3.0]


class Chips:
    """A source of batches in memory: chips with few labels and with many."""

    def __init__(self, mixed: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(CHIPS, 2, PX, PX, generator=generator)
        self.labels, self.others = (
            torch.randint(0, 2, (CHIPS, PX, PX), generator=generator, dtype=torch.uint8) for _ in range(2)
        )
        for chip in range(CHIPS):
            self.labels[chip].view(-1)[: 3 * chip if chip % 4 else None] = 7  # no label, or none at all
        self.shares = torch.rand(CHIPS, generator=generator) if mixed else None

    def batches(self, requests: Sequence[Request], ahead: int = 2) -> Iterator[Batch]:
        for request in requests:
            chips = list(request.chips)
            targets: Targets = {"labels": self.labels[chips]}
            if self.shares is not None and request.epoch is not None:
                targets |= {f"{OTHER}labels": self.others[chips], SHARE: self.shares[chips]}
            yield Batch(self.images[chips], None, targets)


def _as_they_are(images: torch.Tensor, valid: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    return images


def _logits(model: nn.Module, images: torch.Tensor, outputs: int | None = None) -> torch.Tensor:
    logits: torch.Tensor = model(images)
    return logits


def passes(model: nn.Module, shards: int, loss: Any = "cross_entropy", mixed: bool = False, **changes: Any) -> Passes:
    given = {"optimizer": "sgd", "schedule": "constant", "batch_size": 4, "lr": 0.1, "weight_decay": 0.1, **changes}
    train: Any = train_settings(shards=shards, **given)
    objective = ClassObjective(make_loss(loss, {}, WEIGHTS), ["a", "b"], [0, 1], _logits, "labels", WEIGHTS)
    loader: Any = Chips(mixed)
    data, device = Data(loader, CHIPS, CHIPS), torch.device("cpu")
    if shards == 1:
        return Whole(model, data, objective, _as_they_are, train, seed=0, device=device, progress=Silent())
    return Sharded(
        model, data, objective, _as_they_are, train, seed=0, device=device, progress=Silent(), group=Alone(shards)
    )


class Network(nn.Module):
    """A convolution, and a layer that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.idle = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(images)
        return logits


@pytest.mark.parametrize("shards", [2, 3, 4])
@pytest.mark.parametrize(
    ("mixed", "changes"),
    [
        (False, {}),
        (False, {"accumulate": 2, "clip_norm": 0.05}),
        (True, {"loss": "focal"}),
        (False, {"loss": {"cross_entropy": 1.0, "label_smoothing": 0.5}}),
    ],
)
def test_shards_weighted_by_their_labels_are_the_batch(shards: int, mixed: bool, changes: dict[str, Any]) -> None:
    whole, sharded = Network(), Network()
    once = passes(whole, 1, mixed=mixed, **changes)
    parts = passes(sharded, shards, mixed=mixed, **changes)
    expected, learnt = once.learn(1), parts.learn(1)
    assert learnt.loss == pytest.approx(expected.loss, rel=1e-5) and learnt.rate == expected.rate
    assert learnt.parts == pytest.approx(expected.parts, rel=1e-5)
    for ours, theirs in zip(sharded.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert torch.equal(sharded.idle.weight, Network().idle.weight)  # without a gradient, nothing decays


def test_validation_in_shards_counts_all_chips() -> None:
    model = Network()
    once, parts = passes(model, 1), passes(model, 3)
    assert parts.validate().metrics == once.validate().metrics


def test_shards_of_one_size_are_what_batches_of_that_size_would_be() -> None:
    """Running statistics move by the mean of what each shard alone would move them."""
    norm = nn.BatchNorm2d(2)
    model = nn.Sequential(norm, nn.Conv2d(2, 2, 1))
    start = {name: value.clone() for name, value in norm.state_dict().items()}
    moved: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    passes(model, 2, batch_size=CHIPS - 1).learn(1)
    assert [len(part) for part in seen] == [5, 5] and norm.num_batches_tracked == 1
    for part in seen:
        alone = nn.BatchNorm2d(2).train()
        alone.load_state_dict(start)
        alone(part)
        assert alone.running_mean is not None
        moved.append(alone.running_mean)
    torch.testing.assert_close(norm.running_mean, torch.stack(moved).mean(0))


def test_measured_statistics_are_the_mean_over_the_batches_of_shards() -> None:
    norm = nn.BatchNorm2d(2)
    model = nn.Sequential(norm, nn.Conv2d(2, 2, 1))
    parts = passes(model, 3, batch_size=6)
    images = Chips(False).images
    means = torch.stack([images[start : start + 2].mean((0, 2, 3)) for start in range(0, CHIPS, 2)])
    with parts.evaluated(1):
        torch.testing.assert_close(norm.running_mean, means.mean(0))
        assert norm.num_batches_tracked == len(means)
    assert torch.equal(norm.running_mean, torch.zeros(2))


class Counting(nn.Module):
    """A layer that changes a buffer which is no statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return images


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Counting, r"train.shards: the model changes its buffer 0\.seen while it learns"),
        (lambda: nn.SyncBatchNorm(2), "train.shards: the model has layers of torch.nn.SyncBatchNorm"),
    ],
)
def test_models_that_shards_cannot_learn(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        passes(nn.Sequential(make(), nn.Conv2d(2, 2, 1)), 2).learn(1)
