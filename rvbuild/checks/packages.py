"""Packages that a project needs beyond those that rvbuild always installs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project

ONNX = ("onnx", "onnxscript", "onnxruntime")

KIND = "packages of the bundle"
"""The kind of finding for packages that only the bundle needs."""


def findings(project: Project) -> Iterator[Finding]:
    """Yield a finding if packages for the keys of a project are not installed; nothing is imported."""
    missing = [name for name in ONNX if importlib.util.find_spec(name) is None] if project.file.bundle.onnx else []
    if missing:
        text = f"true needs packages that are not installed ({', '.join(missing)}): pip install 'rvbuild[onnx]'"
        yield Finding(Level.ERROR, KIND, text, key=("bundle", "onnx"))
