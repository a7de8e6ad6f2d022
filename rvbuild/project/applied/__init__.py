"""Tasks applied to the tables of a project: task-specific problems, and settings derived from several tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rvbuild.project.applied import classification, detection, segmentation
from rvbuild.project.applied.parts import Application, Parts
from rvbuild.project.scenes.box_files import TABLES as BOX_FILES
from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
from rvbuild.project.scenes.scene import SceneTable
from rvbuild.project.tables.chip import ChipTable, KeepTable
from rvbuild.project.tables.evaluation import EvalTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.problems import Problems
from rvbuild.project.toml.table import Context, Finding, Table, no_effect

_APPLIED: Mapping[str, Application] = {
    "semantic_segmentation": segmentation,
    "chip_classification": classification,
    "object_detection": detection,
}

_KINDS: Mapping[type[Table], str] = {
    RasterLabelsTable: "labels",
    VectorLabelsTable: "labels",
    **dict.fromkeys(BOX_FILES.values(), "box_file"),
    SceneTable: "scene",
    ChipTable: "chip",
    KeepTable: "keep",
    TrainTable: "train",
    PredictTable: "predict",
    EvalTable: "eval",
}
"""The kinds of table that tasks check, with their names in `TaskSpec`."""


def check(table: Table, context: Context) -> Iterator[Finding]:
    """Yield the problems of a table with the project's task, besides the problems that the table itself finds."""
    kind = _KINDS.get(type(table))
    if kind is None:
        return
    for spec in SPECS.values():
        if spec.name != context.task:
            for key in spec.keys.get(kind, ()):
                if table.is_set(key):
                    message = f"applies to {spec.about}, which belong to {spec.name}; the task is {context.task}"
                    yield Finding((key,), message)
    for key, why in SPECS[context.task].unused.get(kind, {}).items():
        if table.is_set(key):
            yield no_effect(key, why)
    yield from _APPLIED[context.task].check(table, context)


def chip_px(task: str, chip: ChipTable, labels: list[Any]) -> int:
    """Return the side of the chips of a project, in pixels; the tables may be otherwise invalid."""
    return _APPLIED[task].chip_px(chip, labels)


def apply(task: str, parts: Parts, labels: Mapping[Key, Any], problems: Problems) -> Parts:
    """Return the scenes and tables, completed by the task; mismatches are reported.

    Parameters
    ----------
    task
        Its name.
    parts
        The parts as given by the tables.
    labels
        The tables of labels, by their keys.
    problems
        Receives the mismatches.
    """
    return _APPLIED[task].apply(parts, labels, problems)
