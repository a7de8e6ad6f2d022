import numpy as np
import pytest
import torch
from torch import nn

from rvbuild import tasks
from rvbuild.errors import DataError, ModelError, UsageError
from rvbuild.learn.losses.points import IGNORE
from rvbuild.tasks.segmentation import model as segmentation_model
from rvbuild.tasks.segmentation import task as task
from tests.learn.chipmaker import chip_arrays, train_settings

OUTPUTS, OUTPUT_IDS = ["car", "tree"], [0, 2]


class Fixed(nn.Module):
    """Returns what it was given."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, images):
        return self.output


def objective(counts=(5, 0, 5), **changes):
    return task.objective(train_settings(**changes), OUTPUTS, OUTPUT_IDS, np.array(counts))


def test_the_module_has_all_that_the_protocol_asks():
    protocol = __import__("rvbuild.tasks.protocol", fromlist=["Task"]).Task
    asked = {name for name in dir(protocol) if callable(getattr(protocol, name)) and not name.startswith("_")}
    assert {"orient", "window", "derive"} <= asked
    assert tasks.get("semantic_segmentation") is task
    assert all(callable(getattr(task, name)) for name in asked)
    assert {"PREDICT_SETTINGS", "RAW", "COUNTED"} <= set(vars(task))


def test_unknown_task():
    with pytest.raises(UsageError, match=r'unknown task .*; did you mean "semantic_segmentation"'):
        tasks.get("semantic_segmentaton")


def test_shards_hold_what_was_packed():
    _, labels = chip_arrays(4)
    targets = [{"labels": array} for array in labels]
    shard = task.pack(targets)
    assert shard["labels"].dtype == np.uint8 and np.array_equal(shard["labels"], labels)
    assert np.array_equal(task.unpack(shard, 2)["labels"], labels[2])
    assert torch.equal(task.collate(targets)["labels"], torch.from_numpy(labels))
    for n in (3, 5, 40):
        assert task.class_counts(targets[0], n).tolist() == np.bincount(labels[0].ravel(), minlength=n).tolist()


def test_null_is_neither_learnt_nor_scored():
    labels = torch.tensor([[[0, 0, 1], [2, 2, 1]]], dtype=torch.uint8)
    logits = torch.zeros(1, 2, 2, 3)
    logits[:, 1, 1] = 5.0
    logits.requires_grad_()
    learnt = objective()
    learnt.loss(Fixed(logits), torch.zeros(1, 3, 2, 3), {"labels": labels}).backward()
    assert (logits.grad[..., 2] == 0).all() and (logits.grad[..., :2] != 0).all()
    learnt.validate(Fixed(logits.detach()), torch.zeros(1, 3, 2, 3), {"labels": labels})
    assert learnt.scores()["iou"] == {"car": 1.0, "tree": 1.0}
    assert learnt.scores()["mean_iou"] is None, "scores start anew"


def test_balanced_weights_come_from_the_counts():
    labels = torch.zeros(1, 1, 4, dtype=torch.uint8)
    labels[..., 3] = 2
    logits = torch.randn(1, 2, 1, 4)
    balanced = objective(counts=(3, 9, 1), class_weights="balanced")
    loss = balanced.loss(Fixed(logits), torch.zeros(1, 3, 1, 4), {"labels": labels})
    each = -torch.log_softmax(logits, 1)
    expected = (each[0, 0, 0, :3].mean() + each[0, 1, 0, 3]) / 2
    torch.testing.assert_close(loss, expected)


def test_own_losses_see_torchs_ignored_value(tmp_path, monkeypatch):
    (tmp_path / "own_loss_x.py").write_text(
        "def make(power):\n"
        "    def loss(logits, target):\n        loss.seen = target\n        return logits.mean() ** power\n"
        "    return loss\n"
        "def bad():\n    return lambda logits, target: logits\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    labels = torch.tensor([[[0, 1, 2, 9]]], dtype=torch.uint8)
    images, model = torch.zeros(1, 3, 1, 4), Fixed(torch.full((1, 2, 1, 4), 3.0))
    learnt = objective(loss="own_loss_x:make", loss_args={"power": 2})
    assert learnt.loss(model, images, {"labels": labels}) == 9
    assert learnt._loss.seen.tolist() == [[[0, IGNORE, 1, IGNORE]]]
    with pytest.raises(ModelError, match="expected the loss to return one number"):
        objective(loss="own_loss_x:bad").loss(model, images, {"labels": labels})


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="no pixel of the training chips has one of the classes car, tree"):
        objective(counts=(0, 50, 0))


def test_forward_gives_probabilities_at_the_size_of_the_images():
    small = torch.randn(2, 3, 4, 4)
    scores = task.forward(Fixed({"out": small, "aux": None}), torch.zeros(2, 3, 8, 8))
    assert scores.shape == (2, 3, 8, 8) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    same = task.forward(Fixed(small), torch.zeros(2, 3, 4, 4))
    np.testing.assert_allclose(same, torch.softmax(small, 1).numpy())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [1, 7, 33])
def test_probabilities_have_the_bytes_of_softmax_and_outputs_of_the_model_stay_as_they_are(layout, side):
    torch.manual_seed(side)
    output = (torch.randn(3, 5, side, side) * 30).to(memory_format=layout)
    before, expected = output.clone(), torch.softmax(output, dim=1)
    scores = task.forward(Fixed(output), torch.zeros(3, 3, side, side))
    assert scores.tobytes() == expected.contiguous().numpy().tobytes()
    assert torch.equal(output, before)


@pytest.mark.parametrize(
    "output", [None, torch.zeros(2, 3), torch.zeros(1, 2, 8, 8), {"other": 1}, [torch.zeros(2, 2, 8, 8)]]
)
def test_outputs_that_are_no_maps(output):
    with pytest.raises(ModelError, match=r"train.model: expected an output \(2, 2, height, width\), or a dict"):
        segmentation_model.logits(Fixed(output), torch.zeros(2, 3, 8, 8), 2)
