from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from rvbuild.checks import packages
from rvbuild.project.tables.bundle import BundleTable


def project(**bundle: Any) -> Any:
    return SimpleNamespace(file=SimpleNamespace(bundle=BundleTable.model_validate(bundle)))


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
