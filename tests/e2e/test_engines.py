"""Projects that predict with another engine than torch."""

from __future__ import annotations

import importlib.util
from importlib import metadata

import numpy as np
import pytest
import rasterio

from rvbuild.stages.engines.exported import is_installed
from tests.e2e.conftest import Space
from tests.e2e.projects import write_project

pytestmark = pytest.mark.slow

P = "projects/p.toml"


def test_the_network_is_exported_once_and_the_classes_stay(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {a["stage"]: a["key"] for a in space.rvbuild("predict", P, "--json").json["artifacts"] if a["scene"] != "a"}
    with rasterio.open(space.root / "cache/p/predict/c/raw_labels.tif") as file:
        of_torch = file.read(1)
    with space.project.open("a") as file:
        file.write('engine = "onnxruntime"\n')
    result = space.rvbuild("predict", P, "--json")
    assert result.status == 0, result.out + result.err
    assert result.did("built") >= {"export", "infer:c"} and not result.did("built") & {"train", "chip:a", "analyze:a"}
    assert 'engine: (not set) → "onnxruntime"' in result.reasons("infer:c")
    with rasterio.open(space.root / "cache/p/predict/c/raw_labels.tif") as file:
        np.testing.assert_array_equal(file.read(1), of_torch)
    # What predicts may change without another export.
    result = space.rvbuild("predict", P, "--set", "predict.stride_px=24", "--json")
    assert "infer:c" in result.did("built") and "export" not in result.did("built")
    # Another version of the engine is another key.
    version = metadata.version
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", lambda name: "9.9" if name == "onnxruntime" else version(name))
        reasons = space.rvbuild("status", P, "--json").reasons("infer:c")
    assert f"onnxruntime {version('onnxruntime')} → 9.9 (version in the key)" in reasons
    # Torch again: the keys are those of before, and nothing is computed.
    space.project.write_text(space.project.read_text().replace('engine = "onnxruntime"\n', ""))
    result = space.rvbuild("predict", P, "--json")
    assert not result.did("built")
    assert {a["stage"]: a["key"] for a in result.json["artifacts"] if a["scene"] != "a"} == keys


@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize("task", ["cells", "boxes"])
def test_every_task_predicts_with_auto(space: Space, task: str) -> None:
    write_project(space.root, task)
    text = space.project.read_text()
    table = "" if "[predict]" in text else "\n[predict]\n"
    space.project.write_text(f'{text}{table}\nengine = "auto"\ntta = "flips"\n')
    result = space.rvbuild("predict", P, "--json")
    assert result.status == 0, result.out + result.err
    # The detector of the test is the user's own, which auto leaves to torch.
    assert {"infer:c", "predict:c"} <= result.did("built") and ("export" in result.did("built")) == (task == "cells")
    assert not space.rvbuild("predict", P, "--json").did("built")


def test_auto_does_not_depend_on_what_is_installed(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    for command in ("predict", "check"):
        result = space.rvbuild(command, P, "--set", "predict.engine=auto")
        assert result.status == 2 and "Traceback" not in result.err
        assert (
            'predict.engine: "openvino" needs packages that are not installed (openvino): '
            "pip install 'rvbuild[openvino]', or use engine = \"torch\"" in result.out + result.err
        )
    assert space.rvbuild("chip", P, "--set", "predict.engine=auto").status == 0
    result = space.rvbuild("status", P, "--set", "predict.engine=auto", "--set", "predict.device=cuda", "--json")
    assert "export" not in {artifact["stage"] for artifact in result.json["artifacts"]}


def test_an_engine_for_a_gpu_that_it_cannot_use_is_a_problem(space: Space) -> None:
    result = space.rvbuild("check", P, "--set", "predict.engine=openvino", "--set", "predict.device=cuda:1")
    assert result.status == 2
    assert 'predict.engine: "openvino" computes on the CPU, but device is "cuda:1"' in result.out + result.err
