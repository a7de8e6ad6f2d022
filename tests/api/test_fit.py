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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(patience=2), "patience needs best"),
        (dict(best="accuracy"), "best needs metrics"),
        (dict(lr=1e30, epochs=3, optimizer="sgd"), "diverged"),
        (dict(optimizer="adan"), 'did you mean "adam"'),
    ],
)
def test_what_cannot_be_is_said(options: dict, message: str) -> None:
    with pytest.raises(rvbuild.ModelError, match=message):
        rvbuild.fit(model(), data(), loss=LOSS, **options)
    with pytest.raises(rvbuild.ModelError, match="empty"):
        rvbuild.fit(model(), data(0), loss=LOSS)


@pytest.mark.slow
def test_the_learner_needs_no_rasters() -> None:
    code = "import sys, rvbuild; rvbuild.fit; assert not {'rasterio', 'fiona', 'shapely', 'doit'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
