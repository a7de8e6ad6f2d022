"""Bundles made and spoiled, for the tests of bundles."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import rvbuild
from rvbuild.errors import DataError
from rvbuild.language.user_code import Code, serve_code
from rvbuild.learn.model_files import read_info, write_info
from rvbuild.progress import Silent
from rvbuild.stages.bundle import write as bundle
from rvbuild.stages.bundle import zip as bundle_zip
from rvbuild.stages.bundle.predict import open_bundle
from tests.stages.sample_scenes import empty, predict_settings, write_model

CODE = """\
import torch
from torch import nn


def small(in_channels, num_classes):
    torch.manual_seed(0)
    return nn.Conv2d(in_channels, num_classes, 3, padding=1)
"""
"""A model of the user's own."""

PORTABLE = {
    "version": 2,
    "splits": {"train": 3, "validation": 1},
    "start": "torchvision",
    "select": "best",
    "select_metric": "mean_iou",
}

LOG = [
    {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 1.0, "metrics": {"mean_iou": 0.5, "iou": {"car": 0.5}}},
    {"epoch": 2, "lr": 0.1, "train_loss": 0.9, "val_loss": 1.1, "metrics": {"mean_iou": 0.25, "iou": {"car": None}}},
]

MEMBERS = ["manifest.json", "model.json", "model.safetensors", "project.json", "stats.json"]


def settings(**predict_: Any) -> dict[str, Any]:
    return predict_settings(**predict_)


def predict_images(bundle_path: Path, images: list[Path], out: Path, **options: Any) -> list[Path]:
    """Predict images with the model of a bundle in this process; return the directory of each."""
    folders: list[Path] = rvbuild.load_model(bundle_path, **options).predict(images, out=out)
    return folders


def pack(folder: Path, model: list[Path], *, onnx: bool = False, **predict_: Any) -> Path:
    """Run the stage; return the zip."""
    stats = folder / "stats.json"
    stats.write_text('{"bands": [], "dtype": "uint8"}\n')
    log = folder / "log.jsonl"
    log.write_text("".join(json.dumps(epoch) + "\n" for epoch in LOG))
    outputs = empty(folder / "packed")
    description = json.loads(model[1].read_text())
    code = _served(folder / "workspace", description["code"] or {})
    trained = {"model": description["model"], "model_args": description["model_args"]}
    options = {**settings(**predict_), "trained": trained, **({"onnx": PORTABLE} if onnx else {})}
    try:
        bundle.run({"model": model, "stats": [stats], "code": code, "log": [log]}, options, outputs, Silent())
    finally:
        serve_code(None)
    return outputs / "bundle.zip"


def _served(workspace: Path, texts: dict[str, str]) -> list[Path]:
    """Write modules into a workspace, and serve them."""
    modules = {}
    for name, text in texts.items():
        is_package = any(other.startswith(f"{name}.") for other in texts)
        path = workspace / (name.replace(".", "/") + ("/__init__.py" if is_package else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        modules[name] = str(path)
    serve_code(Code(str(workspace), modules))
    return [Path(path) for path in modules.values()]


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, members: dict[str, bytes], *, manifest: bool = True) -> Path:
    """Write a bundle with other members; with a manifest that fits them, or the one that is among them."""
    out = path.with_name("changed.zip")
    if manifest:
        bundle_zip.write_zip(out, {k: v for k, v in members.items() if k != "manifest.json"}, lambda: None)
        return out
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


def refuse(path: Path, into: Path, message: str) -> None:
    into.mkdir(exist_ok=True)
    before = set(into.parent.rglob("*")) | {into}
    with pytest.raises(DataError, match=message) as caught:
        open_bundle(path, into)
    assert str(path) in str(caught.value)
    assert {p for p in into.parent.rglob("*") if not p.is_relative_to(into)} <= before


def with_code(folder: Path, code: dict[str, str] | None, name: str = "nets.small:small") -> list[Path]:
    """Write a model that is made by the user's own Python."""
    weights, description = write_model(folder)
    info = replace(read_info(description), model=name, model_args={}, code=code)
    write_info(description, info)
    save_file({"weight": torch.ones(2, 3, 3, 3), "bias": torch.tensor([0.0, 1.0])}, weights)
    return [weights, description]
