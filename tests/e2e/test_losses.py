"""Losses by name, from the command."""

from __future__ import annotations

import json

from .conftest import Space
from .projects import write_project


def test_a_loss_is_chosen_by_name(space: Space) -> None:
    write_project(space.root, "segmentation")
    space.edit('model = "unet"\n', 'model = "unet"\nloss = "dice_cross_entropy"\nclass_weights = "balanced"\n')
    assert space.rvbuild("train", "-q").status == 0
    log = [json.loads(line) for line in (space.root / "cache/p/train/log.jsonl").read_text().splitlines()]
    assert log[-1]["train_loss"] < log[0]["train_loss"]

    space.edit('"dice_cross_entropy"\n', '"dice_cross_entropy"\nloss_args = { lambda_ce = 1, smooth = 0.0 }\n')
    assert "train" in space.rvbuild("status", "--json").did("fresh"), "defaults written out are no edit"
    space.edit("lambda_ce = 1", "lambda_ce = 0.5")
    status = space.rvbuild("status", "--json")
    assert status.did("stale") == {"train"}
    assert any("train.loss_args" in reason and "0.5" in reason for reason in status.reasons("train"))

    space.edit("lambda_ce", "lamda_ce")
    result = space.rvbuild("train")
    assert result.status == 2
    assert '"dice_cross_entropy" has no such argument; did you mean "lambda_ce"?' in result.err
