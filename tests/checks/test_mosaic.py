"""Whether predicted scenes can be one raster: told before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rvbuild.checks import mosaic
from rvbuild.geo.write import mosaic as stage
from rvbuild.project.load import load

TEXT = """
[project]
task = "semantic_segmentation"
[classes]
house = "#ff0000"
road = "#00ff00"
[scenes]
train = ["a"]
validation = ["b"]
test = ["c"]
[scene]
image = "{id}.tif"
labels = { raster = "{id}.png" }
[chip]
size_px = 100
[predict]
mosaic = MOSAIC
"""


def facts(x: float = 500000, y: float = 5800000, size: float = 0.5, crs: str | None = "EPSG:32633") -> dict[str, Any]:
    image = {"height": 300, "width": 200, "crs": crs}
    return {"image": image, "transform": [size, 0.0, x, 0.0, -size, y]}


def told(tmp_path: Path, value: str, **scenes: dict[str, Any]) -> list[str]:
    (tmp_path / "p.toml").write_text(TEXT.replace("MOSAIC", value))
    findings = mosaic.findings(load(tmp_path / "p.toml"), {"a": facts(size=7), "b": facts(), "c": facts(), **scenes})
    return [finding.text for finding in findings]


def test_the_limits_are_those_of_the_stage() -> None:
    assert (mosaic.TOLERANCE_PX, mosaic.MAX_EMPTY) == (stage.TOLERANCE_PX, stage.MAX_EMPTY)


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (facts(x=500100), ""),
        (facts(crs="EPSG:32634"), "scene c is in EPSG:32634, scene b in EPSG:32633"),
        (facts(crs=None), "scene c has no CRS"),
        (facts(size=0.6), "the pixels of scene c differ in size or orientation from those of scene b"),
        (facts(x=500000.2), "the pixels of scene c are not aligned with those of scene b"),
    ],
)
def test_scenes_that_do_not_fit(tmp_path: Path, scene: dict[str, Any], expected: str) -> None:
    findings = told(tmp_path, "true", c=scene)
    assert [expected in text for text in findings] == [True] * bool(expected)
    assert told(tmp_path, "false", c=scene) == []


def test_one_file_that_would_be_empty(tmp_path: Path) -> None:
    far = facts(x=700000)
    assert told(tmp_path, "true", c=far) == []
    assert "mosaic = true" in told(tmp_path, '"cog"', c=far)[0]
    assert told(tmp_path, '"cog"', c=facts(x=500200)) == []
