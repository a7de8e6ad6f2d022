"""What a project file may say about the bands of pretrained weights."""

from __future__ import annotations

import doctest

import pytest

from rvbuild.project.networks import olmoearth
from tests.project.conftest import BASE, Loader, Problems

ENCODER = 'encoder = "timm/resnet18"\nmodel = "unet"\n'
OLMO = 'encoder = "olmoearth/v1_2_nano"\nmodel = "unet"\n'


def test_examples() -> None:
    assert doctest.testmod(olmoearth).failed == 0


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (ENCODER + "bands = { gren = 0 }", 'train.bands.gren: the weights have no band "gren"; did you mean "green"?'),
        (ENCODER + "bands = { nir = 0 }", 'train.bands.nir: the weights have no band "nir"; expected red, green, blue'),
        (ENCODER + "bands = { red = 1, blue = 1 }", 'train.bands.blue: 1 is "red" already'),
        (ENCODER + "bands = { red = -1 }", "train.bands.red: expected"),
        (ENCODER + "pretrained = false\nbands = { red = 1 }", "train.bands: has no effect without pretrained weights"),
        (ENCODER + 'weights_bands = ["red"]', "train.weights_bands: has no effect without a file of weights"),
        (
            ENCODER + 'pretrained = "w.pth"\nweights_bands = ["B04", "B03"]\nbands = { B4 = 0 }',
            'train.bands.B4: the weights have no band "B4"; did you mean "B04"?',
        ),
        ('model = "unet"\npretrained = "w.pth"\nbands = { red = 0 }', 'has no effect with "unet", which takes a file'),
        ('model = "unet"\nbands = { red = 0 }', "train.bands: has no effect without pretrained weights"),
        (ENCODER + 'pretrained = "w.zip"\nbands = { red = 0 }', "has no effect with the weights of a bundle"),
        (OLMO, 'train.bands: "olmoearth/v1_2_nano" must know the bands of the imagery'),
        (OLMO + "pretrained = false\nbands = { B2 = 0 }", 'train.bands.B2: the weights have no band "B2"'),
        (OLMO.replace("nano", "nanno"), 'did you mean "olmoearth/v1_2_nano"?'),
    ],
)
def test_mistakes_are_told(problems: Problems, train: str, message: str) -> None:
    found = problems(BASE + f"[train]\n{train}\n")
    assert any(message in problem for problem in found), found


def test_bands_are_in_the_key_only_if_they_are_named(loaded: Loader) -> None:
    named = loaded(BASE + f"[train]\n{ENCODER}bands = {{ red = 2, blue = 0 }}\n").train.stage_settings()
    plain = loaded(BASE + f"[train]\n{ENCODER}").train.stage_settings()
    assert named["model_args"] == {**plain["model_args"], "bands": {"red": 2, "blue": 0}}
    assert "bands" not in plain["model_args"]
