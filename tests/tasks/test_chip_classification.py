"""The task's functions one by one, and what it learns and scores."""

import numpy as np
import pytest
import torch
from torch import nn

from rvbuild import tasks
from rvbuild.errors import DataError, ModelError
from rvbuild.learn.losses.points import IGNORE
from rvbuild.tasks.classification import model as classification_model
from rvbuild.tasks.classification import task as task
from tests.learn.chipmaker import train_settings

OUTPUTS, OUTPUT_IDS, NULL = ["car", "tree"], [0, 2], 1
CLASSES = [
    {"id": 0, "name": "car", "color": "#ffff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "tree", "color": "#00ff00"},
]


class Fixed(nn.Module):
    """Returns what it was given."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, images):
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


def objective(counts=(5, 0, 5), **changes):
    return task.objective(train_settings(**changes), OUTPUTS, OUTPUT_IDS, np.array(counts))


def target(class_id):
    return {"classes": np.array(class_id, dtype=np.uint8)}


def test_the_module_has_all_that_the_protocol_asks():
    protocol = __import__("rvbuild.tasks.protocol", fromlist=["Task"]).Task
    asked = {name for name in dir(protocol) if callable(getattr(protocol, name)) and not name.startswith("_")}
    assert {"orient", "window", "derive"} <= asked
    assert tasks.get("chip_classification") is task
    assert all(callable(getattr(task, name)) for name in asked)
    assert {"PREDICT_SETTINGS", "RAW", "COUNTED"} <= set(vars(task))


def test_shards_hold_what_was_packed():
    targets = [target(class_id) for class_id in (2, 0, 1, 2)]
    shard = task.pack(targets)
    assert shard["classes"].dtype == np.uint8 and shard["classes"].tolist() == [2, 0, 1, 2]
    assert [int(task.unpack(shard, k)["classes"]) for k in range(4)] == [2, 0, 1, 2]
    batch = task.collate([task.unpack(shard, k) for k in range(4)])["classes"]
    assert batch.dtype == torch.uint8 and batch.tolist() == [2, 0, 1, 2]
    assert task.class_counts(targets[0], 3).tolist() == [0, 0, 1]


def test_a_chip_keeps_its_class_however_it_lies():
    original = target(2)
    assert task.orient(original, True, 3, 16) == original
    assert task.resize(original, (5, 5), 7) == original
    keep = np.zeros((4, 4), dtype=bool)
    assert int(task.mask(original, keep, NULL)["classes"]) == NULL
    keep[0, 0] = True
    assert int(task.mask(original, keep, NULL)["classes"]) == 2
    assert task.draw(original, np.zeros((7, 7, 3), dtype=np.uint8), CLASSES).tolist() == [[[0, 255, 0]]]


def test_unlabelled_chips_are_neither_learnt_nor_scored():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], requires_grad=True)
    classes = torch.tensor([0, 2, NULL], dtype=torch.uint8)
    learnt = objective()
    learnt.loss(Fixed(logits), torch.zeros(3, 3, 2, 2), {"classes": classes}).backward()
    assert (logits.grad[:2] != 0).all() and (logits.grad[2] == 0).all()
    learnt.validate(Fixed(logits.detach()), torch.zeros(3, 3, 2, 2), {"classes": classes})
    assert learnt.scores() == {"accuracy": 1.0, "f1": {"car": 1.0, "tree": 1.0}, "mean_f1": 1.0}
    assert learnt.scores()["accuracy"] is None


def test_accuracy_and_f1():
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    learnt = objective()
    learnt.validate(Fixed(logits), torch.zeros(4, 3, 2, 2), {"classes": torch.tensor([0, 2, 2, 0], dtype=torch.uint8)})
    scores = learnt.scores()
    assert scores.pop("f1") == pytest.approx({"car": 0.8, "tree": 2 / 3})
    assert scores == pytest.approx({"accuracy": 0.75, "mean_f1": (0.8 + 2 / 3) / 2})


def test_the_loss_is_torch_s_own():
    logits, wanted = torch.randn(5, 2), torch.tensor([0, 1, IGNORE, 1, 0])
    classes = torch.tensor([0, 2, NULL, 2, 0], dtype=torch.uint8)
    for weights in ("none", {"car": 1.0, "tree": 3.0}):
        own = objective(class_weights=weights).loss(Fixed(logits), torch.zeros(5, 3, 2, 2), {"classes": classes})
        weight = None if weights == "none" else torch.tensor([1.0, 3.0])
        assert torch.allclose(own, nn.functional.cross_entropy(logits, wanted, weight, ignore_index=IGNORE))


def test_scores_are_probabilities_and_not_logits():
    logits = torch.tensor([[4.0, -2.0], [0.0, 0.0]])
    scores = task.forward(Fixed(logits), torch.zeros(2, 3, 4, 4))
    assert scores.dtype == np.float32 and np.allclose(scores.sum(axis=1), 1) and (scores >= 0).all()
    assert np.allclose(scores, torch.softmax(logits, 1))


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="no training chip has one of the classes car, tree"):
        objective(counts=(0, 3, 0))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 3), r"expected an output \(2, 2\), one value per class without null; found \(2, 3\)"),
        (torch.zeros(2, 2, 1, 1), r"expected an output \(2, 2\).*found \(2, 2, 1, 1\)"),
        ({"aux": torch.zeros(2, 2)}, "found NoneType"),
        (RuntimeError("kernel size"), r"cannot work on chips of 4 x 5 px with 3 bands: kernel size"),
    ],
)
def test_models_that_do_not_fit(output, message):
    with pytest.raises(ModelError, match=message):
        classification_model.logits(Fixed(output), torch.zeros(2, 3, 4, 5), 2)


def test_an_output_in_a_dict():
    out = torch.ones(2, 2)
    assert torch.equal(classification_model.logits(Fixed({"out": out}), torch.zeros(2, 3, 4, 5), 2), out)
