from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.windows import Window
from rvbuild.learn import models
from rvbuild.stages.chip.shards import ShardWriter
from rvbuild.stages.train import stage as train
from rvbuild.tasks.detection import task as task
from rvbuild.tasks.detection.model import DetectionObjective, detect, objective
from tests.learn.chipmaker import Notes, train_settings

CLASSES = [
    {"id": 0, "name": "tree", "color": "#00ff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "car", "color": "#ff0000"},
]
SIZE = 32
ARGS = {"fpn_channels": 8, "head_channels": 8, "rois": 16, "anchor_px": [6, 12, 24, 48, 96], "proposals": 20}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "1")


def write_chips(folder: Path, scene: str, count: int, seed: int) -> list[Path]:
    """Write chips with bright squares, the odd ones with none, as the chip stage does; return the files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    counts = np.zeros(3, dtype=np.int64)
    valid = np.ones((3, SIZE, SIZE), dtype=bool)
    shards = ShardWriter(folder, 0, task.pack, (3, SIZE, SIZE), np.dtype("uint8"), count)
    for number in range(count):
        image = rng.integers(0, 60, (3, SIZE, SIZE), dtype=np.uint8)
        boxes = np.empty((0, 4), dtype=np.float32)
        ids = np.empty(0, dtype=np.uint8)
        if number % 2 == 0:
            x, y, class_id = int(rng.integers(0, 20)), int(rng.integers(0, 20)), int(rng.choice([0, 2]))
            image[class_id, y : y + 10, x : x + 10] = 250
            boxes, ids = np.array([[x, y, x + 10, y + 10]], dtype=np.float32), np.array([class_id], dtype=np.uint8)
        target = {"boxes": boxes, "classes": ids}
        counts += task.class_counts(target, 3)
        shards.add(Window(0, 0, SIZE, SIZE), image, valid, target)
    shards.finish()
    index = {
        **{"scene": scene, "task": "object_detection", "size_px": SIZE, "dtype": "uint8", "bands": 3},
        **{
            "classes": ["tree", "null", "car"],
            "count": count,
            "shards": shards.shards,
            "class_counts": counts.tolist(),
        },
    }
    (folder / "index.json").write_text(json.dumps(index))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("chips")
    return {
        "chips/train/a": write_chips(folder / "a", "a", 6, 0),
        "chips/validation/b": write_chips(folder / "b", "b", 3, 1),
    }


def build(
    folder: Path, inputs: dict[str, list[Path]], resume: Path | None = None, notes: Any = None, **changes: Any
) -> dict[str, bytes]:
    folder.mkdir()
    settings = {
        "model": "fasterrcnn_resnet18_fpn",
        "model_args": ARGS,
        "select_metric": "mean_ap50",
        "lr": 1e-3,
        "augment": ["flip", "rotate90", "brightness"],
        **changes,
    }
    whole = {"task": "object_detection", "classes": CLASSES, "null_id": 1, "chip_px": SIZE, "channels": None, "seed": 3}
    whole["boxes"] = {"ioa_thresh": 0.8, "clip": False}
    train.run(inputs, {**whole, "train": train_settings(**settings)}, folder, notes or Notes(), resume=resume)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_the_same_training_twice_and_resumed_gives_the_same_bytes(
    tmp_path: Path, inputs: dict[str, list[Path]]
) -> None:
    whole = build(tmp_path / "whole", inputs)

    class Killer(Notes):
        def note(self, message: str) -> None:
            super().note(message)
            if message.startswith("epoch 1/"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "part", inputs, tmp_path / "resume", Killer())
    notes = Notes()
    assert build(tmp_path / "again", inputs, tmp_path / "resume", notes) == whole
    assert "continuing after epoch 1" in notes.notes
    # Losses are logged one by one.
    lines = [json.loads(line) for line in whole["log.jsonl"].splitlines()]
    names = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    for line in lines:
        for split in ("train", "val"):
            assert set(line[f"{split}_losses"]) == names
            assert sum(line[f"{split}_losses"].values()) == pytest.approx(line[f"{split}_loss"], rel=1e-5)
        assert set(line["metrics"]) == {"ap50", "ap", "mean_ap50", "mean_ap"}
    assert b"loss_objectness, validation: " in whole["curves.svg"]
    assert b"Validation AP50" in whole["curves.svg"] or lines[0]["metrics"]["mean_ap50"] is None
    assert any("mean AP50" in note for note in notes.notes)


@pytest.mark.slow
def test_chips_without_any_box_of_a_class(tmp_path: Path, inputs: dict[str, list[Path]]) -> None:
    empty = {"chips/train/a": write_chips(tmp_path / "a", "a", 0, 0), "chips/train/b": inputs["chips/train/a"]}
    assert "model.json" in build(tmp_path / "out", empty, epochs=1)
    with pytest.raises(DataError, match=r"no training chip has a box of one of the classes tree, car"):
        objective({}, ["tree", "car"], [0, 2], np.array([0, 7, 0]))


class Scripted(nn.Module):
    """A user's detector that returns what it is told, with torchvision's labels from 1."""

    def __init__(self, results: Any, losses: Any = None) -> None:
        super().__init__()
        self.results, self.losses, self.targets = results, losses, None

    def forward(self, images: Any, targets: Any = None) -> Any:
        assert isinstance(images, list) and (targets is not None) == self.training
        self.targets = targets
        return self.losses if self.training else self.results


def results(boxes: Any, scores: Any, labels: Any) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


IMAGES = torch.zeros(2, 3, 8, 8)
TARGETS = {
    "boxes": [torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 8, 8]]), torch.zeros(0, 4)],
    "classes": [torch.tensor([0, 1, 2], dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8)],
}


def test_a_users_detector_counts_labels_from_one() -> None:
    model = Scripted(None, {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(1.0)})
    goal = DetectionObjective(["tree", "car"], [0, 2])
    loss = goal.loss(model, IMAGES, TARGETS)
    assert loss.item() == 3 and loss.requires_grad
    # The box of the null class is no target.
    assert [wanted["labels"].tolist() for wanted in model.targets] == [[1, 2], []]
    goal.loss(Scripted(None, {"a": torch.tensor(4.0), "b": torch.tensor(1.0)}), IMAGES, TARGETS)
    assert goal.parts() == {"a": 3, "b": 1} and goal.parts() == {}


def test_validation_scores_merged_boxes_by_class() -> None:
    predictions = results([[0, 0, 4, 4], [0, 0, 4, 3.9], [2, 2, 8, 8]], [0.9, 0.8, 0.7], [1, 1, 2])
    goal = DetectionObjective(["tree", "car"], [0, 2])
    losses = {"a": torch.tensor(0.5), "b": torch.tensor(0.25)}
    model = Scripted([predictions, results([], [], [])], losses).eval()
    assert goal.validate(model, IMAGES, TARGETS).item() == 0.75 and not model.training
    assert goal.parts() == {"a": 0.5, "b": 0.25}
    scores = goal.scores()
    assert scores["ap50"] == pytest.approx({"tree": 1, "car": 1}) and scores["mean_ap"] == pytest.approx(1)
    wrong = results([[0, 0, 4, 4]], [0.9], [2])
    goal.validate(Scripted([wrong, results([], [], [])], losses).eval(), IMAGES, TARGETS)
    assert goal.scores()["ap50"] == {"tree": 0, "car": 0}
    assert goal.scores()["mean_ap50"] is None


def test_losses_of_validation_change_nothing_and_are_drawn_alike(inputs: dict[str, list[Path]]) -> None:
    torch.manual_seed(0)
    args = {**ARGS, "rois": 4}  # so few that which ones are drawn decides the loss
    model = models.build("object_detection", "fasterrcnn_resnet18_fpn", bands=3, outputs=2, args=args,
                         pretrained=False, note=pytest.fail)  # fmt: skip
    model.roi_heads.box_head.fc6 = nn.Sequential(model.roi_heads.box_head.fc6, nn.Dropout(0.5))
    model.eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    targets = {
        "boxes": [torch.tensor([[2.0, 3, 12, 14]]), torch.tensor([[8.0, 8, 30, 28], [1, 1, 9, 9]])],
        "classes": [torch.tensor([0], dtype=torch.uint8), torch.tensor([2, 0], dtype=torch.uint8)],
    }
    goal = DetectionObjective(["tree", "car"], [0, 2])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    first, drawn = goal.validate(model, images, targets), torch.rand(1)
    goal.parts()
    torch.manual_seed(6)
    assert goal.validate(model, images, targets) == first
    torch.manual_seed(5)
    assert torch.rand(1) == drawn
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.zeros(2), "a list with a dict of boxes, scores and labels"),
        ([results([], [], [])], "a list with a dict of boxes"),
        ([{"boxes": torch.zeros(0, 4)}] * 2, "a list with a dict of boxes"),
        ([results([[0, 0, 1, 1]], [0.5, 0.5], [1])] * 2, r"expected boxes \(n, 4\)"),
    ],
)
def test_models_that_are_no_detectors(result: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        detect(Scripted(result).eval(), IMAGES)
    with pytest.raises(ModelError, match="a dict of losses"):
        DetectionObjective(["tree"], [0]).loss(Scripted(None, result), IMAGES, TARGETS)


def test_what_a_model_cannot_work_on_is_said() -> None:
    class Picky(nn.Module):
        def forward(self, images: Any) -> Any:
            raise ValueError("too small")

    with pytest.raises(ModelError, match="cannot work on chips of 8 x 8 px with 3 bands: too small"):
        detect(Picky(), IMAGES)
