"""`rvbuild models`: the names that a project can use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rvbuild.cli.app import run
from rvbuild.project.networks import torchvision
from rvbuild.project.networks.encoders import OF_TORCHVISION
from rvbuild.project.networks.listing import listed
from rvbuild.project.networks.models import ALL_MODELS, MODELS, SCRATCH_MODELS


@pytest.fixture
def no_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def here(name: str) -> list[str | None]:
    (named,) = (named for named in listed(name) if named.name == name)
    return [weights.here for weights in named.weights]


def test_weights_in_the_caches_are_here(no_caches: Path, monkeypatch: pytest.MonkeyPatch):
    assert here("resnet18") == here("timm/test_resnet") == here("olmoearth/v1_2_nano") == [None]
    paths = [
        "torch/hub/checkpoints/resnet18-f37072fd.pth",
        "huggingface/hub/models--timm--test_resnet.r160_in1k/snapshots/0a1b/model.safetensors",
        "huggingface/hub/models--allenai--OlmoEarth-v1_2-Nano/snapshots/2c/weights.pth",
    ]
    for path in paths:
        (no_caches / path).parent.mkdir(parents=True)
        (no_caches / path).write_bytes(b"1234")
    names = ["torchvision/resnet18", "timm/test_resnet", "olmoearth/v1_2_nano"]
    assert [here(name) for name in names] == [[str(no_caches / path)] for path in paths]
    assert here("fasterrcnn_resnet18_fpn") == here("resnet18")  # of the backbone
    (named,) = listed("timm/test_resnet")
    assert (named.weights[0].size, named.weights[0].exact) == (4, True)
    monkeypatch.setenv("TORCH_HOME", str(no_caches / "elsewhere"))
    monkeypatch.setenv("HF_HUB_CACHE", str(no_caches / "elsewhere"))
    assert [here(name) for name in names] == [[None]] * 3


def test_files_that_projects_name_are_listed(no_caches: Path, capsys: pytest.CaptureFixture[str]):
    (no_caches / "projects").mkdir()
    (no_caches / "w.safetensors").write_bytes(b"123")
    image = no_caches / "a.tif"
    image.write_bytes(b"")
    (no_caches / "projects/p.toml").write_text(
        """
[project]
task = "semantic_segmentation"
[classes]
car = "#ffff00"
tree = "#00ff00"
[scenes]
train = ["a"]
[scene]
image = "{id}.tif"
labels = { raster = "{id}.tif" }
[train]
model = "unet"
encoder = "timm/test_resnet"
pretrained = "w.safetensors"
"""
    )
    assert run(["models", "timm/test_resnet"]) == 0
    assert f"{no_caches / 'w.safetensors'} (licence of the file, 3 B, here)" in capsys.readouterr().out
    (no_caches / "projects/p.toml").write_text("[project")
    assert run(["models", "timm/test_resnet"]) == 0


def test_the_table_of_torchvision_has_every_model_with_weights():
    names = {n for names in MODELS.values() for n in names if n not in SCRATCH_MODELS} | set(OF_TORCHVISION)
    assert set(torchvision.weights()) == names


@pytest.mark.slow
def test_nothing_heavy_is_imported():
    code = "import sys; from rvbuild.cli.app import run; run(['models', 'resnet18']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_every_model_is_listed_once_and_patterns_select():
    names = [named.name for named in listed()]
    assert set(ALL_MODELS) <= set(names)
    assert len(names) == len(set(names))
    assert {named.name for named in listed("timm/test_res*")} == {"timm/test_resnet"}
    assert {"convnext_tiny", "torchvision/convnext_tiny", "timm/convnext_tiny"} <= {
        n.name for n in listed("ConvNeXt_Tiny")
    }


def test_lines_have_sizes_bands_and_licences(no_caches: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["models", "timm/test_resnet"]) == 0
    assert capsys.readouterr().out == (
        "timm/test_resnet      0.5 M  chip_classification, encoder; weights for red, green, blue: r160_in1k "
        "(apache-2.0, about 1.9 MB)\n"
    )
    assert run(["models", "lraspp*"]) == 0
    assert capsys.readouterr().out == (
        "lraspp_mobilenet_v3_large      3.2 M  semantic_segmentation; weights for red, green, blue: "
        "mobilenet_v3_large-5c1a4163.pth (torchvision's terms, 22 MB)\n"
    )
    assert run(["models", "v1_2_nano"]) == 0
    out = capsys.readouterr().out
    assert "B02, B03, B04, B08" in out and "weights.pth (OlmoEarth Artifact License, about 6.8 MB)" in out
    assert run(["models"]) == 0
    assert "networks of timm" in capsys.readouterr().out


def test_json_and_a_pattern_that_matches_nothing(capsys: pytest.CaptureFixture[str]):
    assert run(["models", "lraspp", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["name"] == "lraspp_mobilenet_v3_large"
    assert run(["models", "xyzzy"]) != 0
    assert "no name matches" in capsys.readouterr().err
    assert run(["models", "timm/convnxt_tiny"]) != 0
    assert 'no name matches; did you mean "timm/convnext_tiny"?' in capsys.readouterr().err
