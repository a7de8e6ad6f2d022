import copy

import pytest
import torch

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.device import random_state, seed_everything
from rvbuild.learn.fold import fold_batchnorm
from rvbuild.learn.models.several.ensemble import Ensemble, scales_of
from rvbuild.learn.steps.encoder import Encoder
from tests.learn.threads import threads

PIXELS, CELLS = "semantic_segmentation", "chip_classification"
SMALL = {"width": 4, "depth": 2}


def ensemble(scales, task=PIXELS, model="unet", args=SMALL, bands=3, chip_px=32):
    return models.build(
        task, model, bands=bands, outputs=2, args={**args, "ensemble": scales}, pretrained=False, chip_px=chip_px
    )


def test_scores_are_means_over_members():
    network = ensemble([1, 1, 1]).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = sum(member(images).softmax(1) for member in network.members) / 3
        torch.testing.assert_close(network(images).softmax(1), expected)
        torch.testing.assert_close(fold_batchnorm(network)(images).softmax(1), expected, atol=1e-5, rtol=1e-4)


def test_a_member_learns_at_one_scale_and_looks_at_several():
    network = ensemble([[0.5, 0.25, 1], 1])
    sides = []
    network.members[0].register_forward_pre_hook(lambda _, images: sides.append(images[0].shape[-1]))
    images = torch.rand(2, 3, 32, 32)
    with threads(1):
        network.train()(images)
    assert sides == [16]
    with torch.inference_mode():
        score = network.eval()(images).softmax(1)
        assert sides == [16, 16, 8, 32]
        looks = [network._logits(0, scale, images).softmax(1) for scale in (0.5, 0.25, 1)]
        expected = (sum(looks) / 3 + network.members[1](images).softmax(1)) / 2
    torch.testing.assert_close(score, expected)


def test_members_start_from_different_weights():
    first, second = ensemble([1, 1]).members
    assert any(not torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


def test_members_share_one_reading_of_a_weights_file_and_its_notes(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    single = models.build(PIXELS, "unet", bands=3, outputs=5, args=SMALL)
    torch.save(single.state_dict(), path)
    read, notes = [], []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **options: read.append(args) or load(*args, **options))
    args = {**SMALL, "ensemble": [1, 1, 0.5]}
    network = models.build(PIXELS, "unet", bands=3, outputs=2, args=args, pretrained=path, note=notes.append)
    assert len(read) == 1
    assert len(notes) == 1 and "for another number of classes" in notes[0]
    for member in network.members:
        for name, value in member.state_dict().items():
            if not name.startswith("head"):
                torch.testing.assert_close(value, single.state_dict()[name], rtol=0, atol=0)
    first, second, _ = network.members
    with torch.no_grad():
        second.get_parameter("down.0.0.weight").add_(1)  # members share no tensors
    assert torch.equal(first.get_parameter("down.0.0.weight"), single.get_parameter("down.0.0.weight"))
    assert not torch.equal(first.get_parameter("head.weight"), second.get_parameter("head.weight"))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_member_learns_from_chips_of_its_own(count):
    network = ensemble([1, 1, 1]).train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # so that a chip's logits do not depend on the others
    images = torch.rand(count, 3, 16, 16)
    logits = network(images)
    for chip in range(count):
        torch.testing.assert_close(logits[chip], network.members[chip % 3](images[chip : chip + 1])[0])
    logits[0].sum().backward()
    learned = [any(p.grad is not None and p.grad.any() for p in member.parameters()) for member in network.members]
    assert learned == [True, False, False]


@pytest.mark.parametrize("sides", [(32, 32), (31, 45), (1, 7)])
@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.5, 4])
def test_any_scale_gives_logits_for_each_pixel(scale, sides):
    network = ensemble([scale, 1]).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, *sides)).shape == (2, 2, *sides)


def test_larger_pixels_are_means_of_those_in_them():
    network = ensemble([0.5, 0.5]).eval()
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    chequerboard = ((rows + columns) % 2).float().expand(1, 3, 16, 16)
    seen = []
    network.members[0].register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    with torch.inference_mode():
        network(chequerboard)
    assert seen[0].shape == (1, 3, 8, 8)
    torch.testing.assert_close(seen[0], torch.full((1, 3, 8, 8), 0.5), atol=0, rtol=0)


@pytest.mark.parametrize("scale", [0.25, 0.4, 0.5, 0.8, 2])
@pytest.mark.parametrize("side", [40, 41, 43])
def test_logits_lie_where_their_pixels_are(scale, side):
    network = ensemble([scale, scale]).eval()
    network.members = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    ramp = torch.arange(side).float().expand(1, 1, 4, side) / side
    with torch.inference_mode():
        pixels = network._logits(0, scale, torch.cat([ramp, -ramp], 1))[0, 0, 0]
    inner = slice(5, -5)  # at the edges, pixels are repeated
    torch.testing.assert_close(pixels[inner], ramp[0, 0, 0, inner], atol=0.5 / side, rtol=0)


def test_classifiers_are_averaged_too():
    network = ensemble([0.5, 1], CELLS, "cnn", SMALL).eval()
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        assert network(images).shape == (3, 2)
        assert network.train()(images).shape == (3, 2)


def test_a_transformer_is_made_for_the_side_of_its_scale():
    pytest.importorskip("timm")
    network = ensemble([0.5, 1], args={"encoder": "timm/test_vit", "decoder_channels": [16, 16, 8, 8, 8]}, chip_px=64)
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_layers_of_encoders_are_side_by_side():
    network = ensemble([1, 1])
    encoder = models.encoder_of(PIXELS, "unet", {**SMALL, "ensemble": [1, 1]}, network)
    single = models.encoder_of(PIXELS, "unet", SMALL, network.members[0])
    assert isinstance(network, Ensemble) and isinstance(encoder, Encoder)
    assert [2 * len(layer) for layer in single.layers()] == [len(layer) for layer in encoder.layers()]
    assert len(encoder.batchnorms()) == 2 * len(single.batchnorms())
    assert len({id(p) for p in encoder.parameters()}) == 2 * len(single.parameters())


@pytest.mark.parametrize(
    "scales",
    [[1], [1, []], [1, [1, 5]], [1, [1] * 9], [1, [[1]]], [1, 0], [1, "2"], [1] * 17, 2, "ab", [1, float("nan")]],
)
def test_scales_of_files_are_checked_again(scales):
    with pytest.raises(ModelError, match=r"train\.ensemble: expected the scales of 2 to 16 networks"):
        ensemble(scales)


def learnt(network, images, count):
    """Return the logits, the gradients and the buffers after a few passes with `count` threads."""
    network = copy.deepcopy(network).train()
    with threads(count):
        logits = [network(images) for _ in range(3)]
        sum(each.square().mean() for each in logits).backward()
    return [*logits, *(p.grad for p in network.parameters()), *network.buffers()]


@pytest.mark.parametrize("chips", [1, 2, 7])
def test_members_that_learn_at_the_same_time_learn_the_same(chips):
    network, images = ensemble([0.5, 1, 0.75]), torch.rand(chips, 3, 32, 32)
    for in_turn, at_once in zip(learnt(network, images, 1), learnt(network, images, 3), strict=True):
        assert (in_turn is None and at_once is None) or torch.equal(in_turn, at_once)


def test_members_that_predict_at_the_same_time_predict_the_same():
    network, images = ensemble([0.5, [1, 0.75]]).eval(), torch.rand(2, 3, 32, 32)
    results = []
    for count in (1, 2):
        with threads(count), torch.inference_mode():
            results.append(network(images))
    assert torch.equal(*results)


class Drops(torch.nn.Module):
    """Draws random numbers in its first passes."""

    def __init__(self, passes):
        super().__init__()
        self.weight = torch.nn.Conv2d(3, 2, 1)
        self.passes = passes

    def forward(self, images):
        self.passes -= 1
        return self.weight(torch.nn.functional.dropout(images) if self.passes >= 0 else images)


def drawing(passes):
    scales = scales_of({"ensemble": [1, 1]})
    return Ensemble(lambda _: Drops(passes), scales).train()


def test_members_that_draw_random_numbers_learn_in_turn():
    network, images = drawing(99), torch.rand(8, 3, 64, 64)
    results, states = [], []
    for count in (1, 2):
        seed_everything(0)
        results.append(learnt(network, images, count))
        states.append(random_state())
    # Of other numbers, dropout would make other logits; a number of threads shows in the last digits.
    torch.testing.assert_close(*results)
    assert states[0] == states[1]


def test_members_that_draw_at_times_are_refused_unless_they_learn_in_turn():
    def late():
        network = drawing(0)
        network(torch.rand(2, 3, 8, 8))
        for member in network.members:
            member.passes = 1
        return network

    with threads(2), pytest.raises(ModelError, match=r"add train\.threads = 1"):
        late()(torch.rand(2, 3, 8, 8))
    with threads(1):
        late()(torch.rand(2, 3, 8, 8))
