"""`--set key=value`, where it works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rvbuild.project.model import Project
from rvbuild.project.toml.overrides import apply, parse


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("train.lr=1e-3", ("train", "lr"), 1e-3),
        ("train.lr = 1", ("train", "lr"), 1),
        ("train.pretrained=false", ("train", "pretrained"), False),
        ("predict.blend=mean", ("predict", "blend"), "mean"),
        ('predict.blend="mean"', ("predict", "blend"), "mean"),
        ("scene.image=${X}/{id}.tif", ("scene", "image"), "${X}/{id}.tif"),
        ("project.name=", ("project", "name"), ""),
        ("project.name=a=b", ("project", "name"), "a=b"),
        ("project.name=1\nseed=2", ("project", "name"), "1\nseed=2"),
        ('scenes.by_id."a.b=c".aoi=[]', ("scenes", "by_id", "a.b=c", "aoi"), []),
        ('predict.vectors=[{class="car"}]', ("predict", "vectors"), [{"class": "car"}]),
    ],
)
def test_parse(argument: str, key: tuple[str, ...], value: object) -> None:
    override = parse(argument)
    assert (override.key, override.value) == (key, value)


def test_apply_makes_tables_and_goes_into_lists() -> None:
    data: dict[str, Any] = {"predict": {"vectors": [{"class": "a"}]}}
    apply(data, parse("chip.keep.min_px=3"))
    assert apply(data, parse("predict.vectors.0.class=b")).key == ("predict", "vectors", 0, "class")
    assert data == {"predict": {"vectors": [{"class": "b"}]}, "chip": {"keep": {"min_px": 3}}}


def test_overrides_count(loaded: Callable[..., Project], base: str) -> None:
    project = loaded(base, ["train.lr=1e-3", "train.epochs=3", "chip.size_px=64", "train.epochs=4"])
    assert (project.train.lr, project.train.epochs, project.chip_px) == (1e-3, 4, 64)
    assert project.predict.stage_settings()["stride_px"] == 64


def test_an_override_can_mend_the_file(loaded: Callable[..., Project], base: str) -> None:
    assert loaded(base + '[chip]\nsize_px = "x"\n', ["chip.size_px=64"]).chip_px == 64
