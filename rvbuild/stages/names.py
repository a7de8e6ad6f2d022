"""The stages and the commands that build them, declared in one place that imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias, get_args

ExportedEngine: TypeAlias = Literal["onnxruntime", "openvino"]
"""What computes a network that is exported as ONNX: the name of a package."""

Engine: TypeAlias = Literal["auto", "torch", ExportedEngine]
"""What computes the network of a bundle: `auto` is the first of torch, onnxruntime and openvino that is installed."""

EXPORTED_ENGINES: tuple[ExportedEngine, ...] = get_args(ExportedEngine)

ENGINES: tuple[Engine, ...] = get_args(Engine)

AnyTestTime: TypeAlias = Literal["none", "flips", "d4"]
"""A test-time augmentation, or none at all."""

TEST_TIMES: tuple[AnyTestTime, ...] = get_args(AnyTestTime)

ENGINE_EXTRAS: Mapping[ExportedEngine, str] = {"onnxruntime": "onnx", "openvino": "openvino"}
"""The extra of rvbuild that installs an engine."""

COMMANDS = {
    "analyze": "Compute statistics of the bands of the training scenes.",
    "chip": "Cut chips of imagery and labels from training and validation scenes.",
    "train": "Train the model.",
    "predict": "Predict validation and test scenes; or BUNDLE.zip INPUT… -o DIR.",
    "eval": "Evaluate predictions against labels.",
    "bundle": "Package the model for prediction elsewhere.",
    "report": "Write one page with the evaluation, curves, chips, and a picture of each predicted scene.",
    "draft": "Map all scenes in seconds by a model in closed form, and after each edit of labels.",
    "review": "List the labels that are probably wrong, and the objects that probably lack one.",
    "suggest": "List the windows to label next, and write them as polygons to digitise in.",
}
"""The commands that build stages, in the order of the work, each with its line of `--help`."""

PARTS = {
    "predict": ("export", "strips", "infer", "predict", "mosaic"),
    "infer": ("strips", "infer"),
    "draft": ("features", "sums", "head", "draft", "draft_eval"),
    "review": ("suspects",),
    "suggest": ("suggestions",),
}
"""The stages that a command does together, where it is more than the one of its name."""

STAGES = tuple(stage for command in COMMANDS for stage in PARTS.get(command, (command,)))
"""All stages, in the order of the work; each has a rule in `rvbuild.rules.RULES`."""

ON_REQUEST = ("draft", "review", "suggest")
"""The commands whose stages are no part of `build`: they are built by their command, or one that names them."""


INTERMEDIATE = ("chip", "strips", "features", "sums")
"""Stages whose results are large and only read by other stages."""


SHARED = ("sums",)
"""Stages of which a command only makes what its other stages need: reviews need more of them than drafts do."""


def on_request(stage: str) -> bool:
    """Tell whether a stage or a command is no part of `build`."""
    return any(stage in (command, *PARTS.get(command, ())) for command in ON_REQUEST)


def asked_for(stage: str, commands: Collection[str]) -> bool:
    """Tell whether some of the commands that are no part of `build` make a stage."""
    return any(stage in PARTS.get(command, (command,)) for command in commands)
