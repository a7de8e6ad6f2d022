from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from rvbuild.checks import packages
from rvbuild.project.tables.bundle import BundleTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.tables.train import TrainTable


def project(log: tuple[str, ...] = (), engine: str = "torch", **bundle: Any) -> Any:
    train, predict = TrainTable.model_validate({"log": log}), PredictTable.model_validate({"engine": engine})
    file = SimpleNamespace(bundle=BundleTable.model_validate(bundle), train=train)
    return SimpleNamespace(file=file, train=train, predict=predict, memo={})


def test_packages_are_only_needed_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(packages.findings(project(onnx=True))) == []
    find = importlib.util.find_spec
    missing = {"onnx", "onnxruntime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    assert list(packages.findings(project())) == []
    (finding,) = packages.findings(project(onnx=True))
    assert finding.key == ("bundle", "onnx")
    assert finding.text == (
        "true needs packages that are not installed (onnx, onnxruntime): pip install 'rvbuild[onnx]'"
    )


def test_logs_of_a_training_need_the_packages_of_their_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    missing = {"tensorboard", "mlflow"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    assert list(packages.findings(project(log=("csv",)))) == []
    board, flow = packages.findings(project(log=("tensorboard", "csv", "mlflow")))
    assert packages.KINDS[board.kind] == "train" and board.key == flow.key == ("train", "log")
    assert board.text == (
        "\"tensorboard\" needs the package tensorboard, which is not installed: pip install 'rvbuild[tensorboard]'"
    )
    assert "pip install 'rvbuild[mlflow]'" in flow.text


def test_engines_need_their_package_and_an_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    missing = {"openvino", "onnxscript"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    assert list(packages.findings(project())) == []
    export, engine = packages.findings(project(engine="openvino"))
    assert (packages.KINDS[export.kind], packages.KINDS[engine.kind]) == ("export", "infer")
    assert export.key == engine.key == ("predict", "engine")
    assert export.text == (
        '"openvino" needs packages that are not installed (onnxscript): '
        "pip install 'rvbuild[openvino]', or use engine = \"torch\""
    )
    (of_onnxruntime,) = packages.findings(project(engine="onnxruntime"))
    assert "(onnxscript): pip install 'rvbuild[onnx]'" in of_onnxruntime.text
