"""Packages that a project needs beyond those that rvbuild always installs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project
from rvbuild.rules import infer
from rvbuild.stages.names import ENGINE_EXTRAS

ONNX = ("onnx", "onnxscript", "onnxruntime")

LOGS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow",)}
"""What the sinks of `train.log` need, each in an extra of its own name."""

KINDS = {
    "packages of the bundle": "bundle",
    "packages of the training": "train",
    "packages of the export": "export",
    "packages of the engine": "infer",
}
"""The kinds of findings, with the only stage that needs the packages."""


def findings(project: Project) -> Iterator[Finding]:
    """Yield a finding if packages for the keys of a project are not installed; nothing is imported."""
    of_bundle, of_training, of_export, of_engine = KINDS
    if project.file.bundle.onnx and (missing := _missing(ONNX)):
        text = f"true needs packages that are not installed ({', '.join(missing)}): pip install 'rvbuild[onnx]'"
        yield Finding(Level.ERROR, of_bundle, text, key=("bundle", "onnx"))
    for name in project.file.train.log:
        if missing := _missing(LOGS.get(name, ())):
            text = f"\"{name}\" needs the package {missing[0]}, which is not installed: pip install 'rvbuild[{name}]'"
            yield Finding(Level.ERROR, of_training, text, key=("train", "log"))
    if (engine := infer.engine(project)) is not None:
        for kind, needed in ((of_export, ("onnx", "onnxscript")), (of_engine, (engine,))):
            if missing := _missing(needed):
                text = f'"{engine}" needs packages that are not installed ({", ".join(missing)}): '
                text += f"pip install 'rvbuild[{ENGINE_EXTRAS[engine]}]', or use engine = \"torch\""
                yield Finding(Level.ERROR, kind, text, key=("predict", "engine"))


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
