"""The learner on its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import rvbuild


def data(count: int = 64, seed: int = 0) -> TensorDataset:
    inputs = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    return {"accuracy": float((outputs.argmax(dim=1) == targets).float().mean())}


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, step: str, total: int, unit: str) -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def note(self, message: str) -> None:
        self.lines.append(message)


LOSS = nn.functional.cross_entropy


def test_it_learns_and_keeps_the_best_epoch() -> None:
    notes = Notes()
    fitted = rvbuild.fit(
        *(model(), data(128), data(64, seed=9)),
        **dict(loss=LOSS, metrics=accuracy, best="accuracy", epochs=6, lr=0.05, progress=notes),
    )
    scores = [line["metrics"]["accuracy"] for line in fitted.log]
    assert max(scores) > 0.85 and fitted.kept_epoch == scores.index(max(scores)) + 1
    inputs, targets = data(64, seed=9).tensors
    assert not fitted.model.training
    assert accuracy(fitted.model(inputs), targets)["accuracy"] == pytest.approx(max(scores))
    assert "accuracy" in notes.lines[0]


NOISY = """\
import torch

class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.randn(2), index % 2
"""


@pytest.mark.slow
def test_the_same_arguments_give_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the dataset draws from torch's global generator, as augmentations do."""
    (tmp_path / "noisy_items.py").write_text(NOISY)
    monkeypatch.syspath_prepend(str(tmp_path))
    items = importlib.import_module("noisy_items").Noisy()
    first = rvbuild.fit(model(), items, loss=LOSS, epochs=2)
    torch.rand(3)
    assert same(first.model, rvbuild.fit(model(), items, loss=LOSS, epochs=2).model)
    assert same(first.model, rvbuild.fit(model(), items, loss=LOSS, epochs=2, workers=1).model)
    assert not same(first.model, rvbuild.fit(model(), items, loss=LOSS, epochs=2, seed=1).model)


class Killed(Notes):
    """Kills the training after the second epoch."""

    def note(self, message: str) -> None:
        if message.startswith("epoch 2/"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_killed_training_continues_with_the_same_result(tmp_path: Path) -> None:
    whole = rvbuild.fit(model(), data(), loss=LOSS, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        rvbuild.fit(model(), data(), loss=LOSS, epochs=4, resume=tmp_path / "r", progress=Killed())
    notes = Notes()
    again = rvbuild.fit(model(), data(), loss=LOSS, epochs=4, resume=tmp_path / "r", progress=notes)
    assert same(whole.model, again.model) and len(notes.lines) == 3  # it continued, epochs 3 and 4


class Pairs(Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        value = torch.tensor([index / 16])
        return value, {"double": 2 * value, "weight": torch.tensor([1.0])}


def test_targets_may_be_dicts() -> None:
    def loss(outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        return (targets["weight"] * (outputs - targets["double"]) ** 2).mean()

    fitted = rvbuild.fit(nn.Linear(1, 1), Pairs(), loss=loss, epochs=30, lr=0.1, optimizer="sgd")
    assert fitted.model.weight.item() > 1


class Network(nn.Module):
    """A network with an encoder of two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.backbone(inputs).relu())
        return outputs


def moved(fitted: rvbuild.Fitted) -> list[float]:
    """Return how far each weight has moved from where it began, layer by layer."""
    pairs = zip(fitted.model.parameters(), Network().parameters(), strict=True)
    return [(after - before).abs().max().item() for after, before in pairs]


def test_a_frozen_encoder_learns_only_after_its_epochs() -> None:
    frozen = moved(rvbuild.fit(Network(), data(), loss=LOSS, epochs=2, freeze=2))
    assert frozen[:4] == [0, 0, 0, 0] and min(frozen[4:]) > 0
    assert min(moved(rvbuild.fit(Network(), data(), loss=LOSS, epochs=2, freeze=1))) > 0


def test_layers_of_the_encoder_learn_at_their_own_rates() -> None:
    options = dict(loss=LOSS, epochs=1, batch_size=64, schedule="constant", lr=0.01)
    # The first step of Adam is as long as the learning rate.
    assert moved(rvbuild.fit(Network(), data(), **options, encoder_lr=0.1)) == pytest.approx(
        [0.001] * 4 + [0.01] * 2, rel=1e-3
    )
    assert moved(rvbuild.fit(Network(), data(), **options, layer_decay=0.5)) == pytest.approx(
        [0.0025] * 2 + [0.005] * 2 + [0.01] * 2, rel=1e-3
    )
    network = Network()
    only_the_head = rvbuild.fit(network, data(), **options, encoder_lr=0.1, encoder=network.head)
    assert moved(only_the_head) == pytest.approx([0.01] * 4 + [0.001] * 2, rel=1e-3)


def test_a_step_of_several_batches_is_that_of_one_larger_batch() -> None:
    options = dict(loss=LOSS, epochs=3, lr=0.1, optimizer="sgd")
    whole = rvbuild.fit(Network(), data(56), **options, batch_size=16)
    parts = rvbuild.fit(Network(), data(56), **options, batch_size=4, accumulate=4)
    assert moved(parts) == pytest.approx(moved(whole), rel=1e-4)
    assert moved(rvbuild.fit(Network(), data(56), **options, batch_size=4)) != pytest.approx(moved(whole), rel=0.01)


def test_warm_up_clipping_and_the_average_of_weights() -> None:
    options = dict(loss=LOSS, epochs=2, batch_size=64, schedule="constant", lr=0.01)
    assert [line["lr"] for line in rvbuild.fit(Network(), data(), **options, warmup_epochs=1).log] == [0.005, 0.01]
    clipped = moved(rvbuild.fit(Network(), data(), **{**options, "optimizer": "sgd"}, clip_norm=1e-3))
    assert 0 < max(clipped) <= 2 * 0.01 * 1e-3 * 1.001
    plain, average = (moved(rvbuild.fit(Network(), data(), **options, **more)) for more in ({}, dict(ema=0.999)))
    # After the first step the average is 9/11 of the way, after the second 9/12 of the rest.
    assert all(0 < a < b for a, b in zip(average, plain, strict=True))


def test_losses_are_added_up_by_weight_and_logged_by_name() -> None:
    def zero(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.sum() * 0 + 1

    options = dict(epochs=2, lr=0.05)
    both = rvbuild.fit(model(), data(), data(32, 9), loss={"ce": (2.0, LOSS), "one": (0.5, zero)}, **options)
    twice = rvbuild.fit(model(), data(), data(32, 9), loss=lambda o, t: 2 * LOSS(o, t), **options)
    assert same(both.model, twice.model)
    for line, other in zip(both.log, twice.log, strict=True):
        assert line["train_losses"] == {"ce": pytest.approx(other["train_loss"]), "one": pytest.approx(0.5)}
        assert line["val_losses"] == {"ce": pytest.approx(other["val_loss"]), "one": pytest.approx(0.5)}
        assert line["train_loss"] == pytest.approx(other["train_loss"] + 0.5)
        assert "train_losses" not in other


def test_a_killed_training_with_all_options_continues_with_the_same_result(tmp_path: Path) -> None:
    options = dict(loss={"ce": (1.0, LOSS)}, epochs=4, freeze=1, encoder_lr=0.5, layer_decay=0.5, ema=0.9)
    options |= dict(accumulate=3, warmup_epochs=0.5, clip_norm=1.0)
    whole = rvbuild.fit(Network(), data(), **options)
    with pytest.raises(KeyboardInterrupt):
        rvbuild.fit(Network(), data(), **options, resume=tmp_path / "r", progress=Killed())
    notes = Notes()
    again = rvbuild.fit(Network(), data(), **options, resume=tmp_path / "r", progress=notes)
    assert same(whole.model, again.model) and len(notes.lines) == 3
    notes = Notes()
    rvbuild.fit(Network(), data(), **{**options, "freeze": 2}, resume=tmp_path / "r", progress=notes)
    assert not any("continuing" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(patience=2), "patience needs best"),
        (dict(freeze=1), "Sequential has no module named encoder or backbone"),
        (dict(encoder=nn.Linear(2, 2)), "no effect without freeze"),
        (dict(encoder=nn.Linear(2, 2), freeze=1), "is no module of the model"),
        (dict(freeze=11), "freeze: expected from 0 to epochs = 10, found 11"),
        (dict(warmup_epochs=10), "warmup_epochs: expected from 0 to less than epochs = 10"),
        (dict(accumulate=0), "accumulate: expected at least 1, found 0"),
        (dict(ema=1.0), "ema: expected between 0 and 1"),
        (dict(layer_decay=1.5), "layer_decay: expected more than 0 and at most 1"),
        (dict(loss={}), "loss: expected at least one"),
        (dict(best="accuracy"), "best needs metrics"),
        (dict(lr=1e30, epochs=3, optimizer="sgd"), "diverged"),
        (dict(optimizer="adan"), 'did you mean "adam"'),
    ],
)
def test_what_cannot_be_is_said(options: dict, message: str) -> None:
    with pytest.raises(rvbuild.ModelError, match=message):
        rvbuild.fit(model(), data(), **{"loss": LOSS, **options})
    with pytest.raises(rvbuild.ModelError, match="empty"):
        rvbuild.fit(model(), data(0), loss=LOSS)


@pytest.mark.slow
def test_the_learner_needs_no_rasters() -> None:
    code = "import sys, rvbuild; rvbuild.fit; assert not {'rasterio', 'fiona', 'shapely', 'doit'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
