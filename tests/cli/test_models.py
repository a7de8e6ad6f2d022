"""`rvbuild models`: the names that a project can use."""

from __future__ import annotations

import json

import pytest

from rvbuild.cli.app import run
from rvbuild.project.networks.listing import listed
from rvbuild.project.networks.models import ALL_MODELS


def test_every_model_is_listed_once_and_patterns_select():
    names = [named.name for named in listed()]
    assert set(ALL_MODELS) <= set(names)
    assert len(names) == len(set(names))
    assert {named.name for named in listed("timm/test_res*")} == {"timm/test_resnet"}
    assert {"convnext_tiny", "torchvision/convnext_tiny", "timm/convnext_tiny"} <= {
        n.name for n in listed("ConvNeXt_Tiny")
    }


def test_lines_have_sizes_and_licences(capsys: pytest.CaptureFixture[str]):
    assert run(["models", "timm/test_resnet"]) == 0
    assert capsys.readouterr().out == (
        "timm/test_resnet      0.5 M  chip_classification, encoder; r160_in1k (apache-2.0)\n"
    )
    assert run(["models"]) == 0
    assert "networks of timm" in capsys.readouterr().out


def test_json_and_a_pattern_that_matches_nothing(capsys: pytest.CaptureFixture[str]):
    assert run(["models", "lraspp", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["name"] == "lraspp_mobilenet_v3_large"
    assert run(["models", "xyzzy"]) != 0
    assert "no name matches" in capsys.readouterr().err
