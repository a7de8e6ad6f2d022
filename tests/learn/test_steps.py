"""Accumulated gradients, averaged weights, frozen encoders and rates of layers, on small networks."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.steps.average import Average
from rvbuild.learn.steps.encoder import Encoder, all_but, of_module
from rvbuild.learn.steps.freezing import Freezing
from rvbuild.learn.steps.optim import learning_rate, parameter_groups
from rvbuild.learn.steps.stepper import Stepper
from tests.learn.chipmaker import train_settings

TINY = {"fpn_channels": 8, "head_channels": 8}

SEGMENTATION, CHIPS, BOXES = "semantic_segmentation", "chip_classification", "object_detection"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def stepper(model: nn.Module, batches: int, **changes: Any) -> Stepper:
    train = train_settings(lr=0.1, schedule="constant", optimizer="sgd", **changes)
    return Stepper(model, None, train, batches, torch.amp.GradScaler("cpu", enabled=False))


def trained(batch_sizes: list[int], **changes: Any) -> tuple[nn.Module, int]:
    """Train for one epoch on 11 points in batches of these sizes; return the model and the number of steps."""
    model, rng = network(), np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(11, 3)).astype(np.float32))
    wanted = torch.from_numpy(rng.normal(size=(11, 2)).astype(np.float32))
    steps, taken, start = stepper(model, len(batch_sizes), **changes), 0, 0
    for at, count in zip(steps.places(batch_sizes), batch_sizes, strict=True):
        if at.first:
            steps.clear()
        steps.add(((model(points[start : start + count]) - wanted[start : start + count]) ** 2).mean(), at.share)
        start += count
        if at.last:
            steps.take(taken)
            taken += 1
    assert taken == steps.per_epoch
    return model, taken


def difference(one: nn.Module, other: nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_batches_of_a_step_count_as_one_batch_and_the_last_step_may_have_fewer(clip_norm: float | None) -> None:
    changes = {} if clip_norm is None else {"clip_norm": clip_norm}
    whole, steps = trained([6, 5], **changes)
    # Groups of (2, 2, 2) and (2, 3): the gradients of every chip weigh alike in the group, and norms are of groups.
    parts, steps_of_parts = trained([2, 2, 2, 2, 3], accumulate=3, **changes)
    assert steps == steps_of_parts == 2
    assert difference(whole, parts) < 1e-6 < difference(whole, trained([2, 2, 2, 2, 3], **changes)[0])


def test_rates_count_steps_not_batches() -> None:
    steps = stepper(network(), 10, accumulate=4)
    assert steps.per_epoch == 3
    assert [at.last for at in steps.places([1] * 10)] == [number in (3, 7, 9) for number in range(10)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warm_up_rises_to_the_schedule(schedule: str) -> None:
    changes = {"lr": 0.1, "epochs": 4, "schedule": schedule, "step_epochs": [3]}
    plain = learning_rate(train_settings(**changes), 10)
    warm = learning_rate(train_settings(**changes, warmup_epochs=0.5), 10)
    factors = [warm(step) / plain(step) for step in range(40)]
    assert factors == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, *[1] * 35])


def test_warm_up_is_the_rise_of_one_cycle() -> None:
    rate = learning_rate(train_settings(lr=0.1, epochs=4, schedule="one_cycle", warmup_epochs=1), 10)
    rates = [rate(step) for step in range(40)]
    assert rates[0] == pytest.approx(0.1 / 25) and max(rates) == rates[9] == pytest.approx(0.1)
    assert (np.diff(rates[9:]) < 0).all() and rates[-1] < 1e-5


def test_the_average_follows_its_formula_and_leaves_the_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    average, wanted = Average(model, 0.3), 2.0
    for number, value in enumerate([4.0, -1.0, 8.0], start=1):
        nn.init.constant_(model.weight, value)
        average.update()
        decay = min(0.3, (1 + number) / (10 + number))
        wanted = decay * wanted + (1 - decay) * value
    with average.used():
        assert model.weight.item() == pytest.approx(wanted)
    assert model.weight.item() == 8
    again = Average(model, 0.3)
    again.restore(average.state(), 3)
    for each in (average, again):
        each.update()
    assert torch.equal(average.state()["weight"], again.state()["weight"])


def small(task: str, name: str, args: dict[str, Any] | None = None, px: int = 32) -> tuple[nn.Module, Encoder]:
    model = models.build(task, name, bands=3, outputs=2, args=args or {}, chip_px=px)
    return model, models.encoder_of(task, name, args or {}, model)


def names_of(model: nn.Module, layer: list[nn.Parameter]) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in layer}


@pytest.mark.parametrize(
    ("task", "name", "args", "layers", "head"),
    [
        (CHIPS, "resnet18", {}, 9, {"fc"}),
        (CHIPS, "cnn", {"width": 2}, 8, {"head"}),
        (CHIPS, "mobilenet_v3_small", {}, 14, {"classifier"}),
        (CHIPS, "vit_b_32", {"image_size": 32}, 13, {"heads"}),
        (SEGMENTATION, "unet", {"width": 2}, 8, {"raise_", "up", "head"}),
        (SEGMENTATION, "lraspp_mobilenet_v3_large", {}, 17, {"classifier"}),
        (BOXES, "fasterrcnn_resnet18_fpn", TINY, 9, {"backbone", "rpn", "roi_heads"}),
        (BOXES, "ssdlite_mobilenet_v3_large", {}, 32, {"head"}),
    ],
)  # fmt: skip
def test_encoders_of_named_models(task: str, name: str, args: dict[str, Any], layers: int, head: set[str]) -> None:
    model, encoder = small(task, name, args)
    of_layers = encoder.layers()
    assert len(of_layers) == layers
    inside = {id(parameter) for layer in of_layers for parameter in layer}
    assert sum(map(len, of_layers)) == len(inside) == len(encoder.parameters())
    outside = {name.split(".")[0] for name, value in model.named_parameters() if id(value) not in inside}
    assert outside == head
    first = next(name for name, value in model.named_parameters() if id(value) in inside)
    assert first in names_of(model, of_layers[0])


def test_encoders_of_timm() -> None:
    pytest.importorskip("timm")
    model, encoder = small(CHIPS, "timm/deit_tiny_distilled_patch16_224")
    assert len(encoder.layers()) == 13
    first = names_of(model, encoder.layers()[0])
    assert {"model.cls_token", "model.pos_embed", "model.patch_embed.proj.weight"} <= first
    assert {"model.norm.weight", "model.norm.bias"} <= names_of(model, encoder.layers()[-1])
    inside = {id(parameter) for parameter in encoder.parameters()}
    outside = {name for name, value in model.named_parameters() if id(value) not in inside}
    assert outside == {f"model.head{dist}.{kind}" for dist in ("", "_dist") for kind in ("weight", "bias")}


class Own(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)))
        self.head = nn.Conv2d(4, 2, 1)


def test_a_users_model_names_its_encoder() -> None:
    model = Own("backbone")
    layers = models.encoder_of(SEGMENTATION, "mine:Own", {}, model).layers()
    assert [len(layer) for layer in layers] == [4, 2]
    with pytest.raises(ModelError, match=r"Own has no module named encoder or backbone"):
        models.encoder_of(SEGMENTATION, "mine:Own", {}, Own("body"))


def test_layers_learn_at_rates_of_their_own() -> None:
    model, encoder = small(SEGMENTATION, "unet", {"width": 2, "depth": 2})
    groups = parameter_groups(model, encoder, {"encoder_lr": 0.1, "layer_decay": 0.5})
    assert [group.factor for group in groups] == pytest.approx([1, 0.1 / 16, 0.1 / 8, 0.1 / 4, 0.1 / 2])
    assert sum(len(group.parameters) for group in groups) == len(list(model.parameters()))
    (head, one) = parameter_groups(model, encoder, {"encoder_lr": 0.1})
    assert (head.factor, one.factor) == (1, 0.1) and len(one.parameters) == len(encoder.parameters())
    assert [group.factor for group in parameter_groups(model, None, {})] == [1]
    train = train_settings(lr=0.5, schedule="constant", optimizer="sgd", encoder_lr=0.1)
    steps = Stepper(model, encoder, train, 1, torch.amp.GradScaler("cpu", enabled=False))
    assert steps.take(0) == 0.5
    assert [group["lr"] for group in steps.optimizer.param_groups] == pytest.approx([0.5, 0.05])


def test_a_frozen_encoder_stays_as_it_is_and_learns_later() -> None:
    model, encoder = small(CHIPS, "cnn", {"width": 2, "depth": 2})
    own = next(iter(model.get_submodule("features.0").parameters()))
    own.requires_grad_(False)  # the model keeps this from learning
    freezing, optimizer = Freezing(encoder, 2), torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    states = [copy.deepcopy(model.state_dict())]
    for epoch in (1, 2, 3):
        freezing.train(model, epoch)
        assert (len(freezing.kept(epoch)) == 4) == (epoch <= 2)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.rand(4, 3, 8, 8)).square().mean().backward()
            optimizer.step()
        states.append(copy.deepcopy(model.state_dict()))
    before, _, frozen, thawed = states
    for name, value in before.items():
        assert torch.equal(value, frozen[name]) == name.startswith("features"), name
        assert torch.equal(frozen[name], thawed[name]) == (name == "features.0.weight"), name


def test_encoders_have_no_head() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)))
    encoder = all_but(model, [model.get_submodule("1.1")])
    assert names_of(model, encoder.parameters()) == {"0.weight", "0.bias", "1.0.weight", "1.0.bias"}
    assert names_of(model, of_module(model.get_submodule("1.0")).parameters()) == {"1.0.weight", "1.0.bias"}
