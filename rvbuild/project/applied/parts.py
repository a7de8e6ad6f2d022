"""The parts of a project that a task is applied to, and the interface to apply it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rvbuild.project.model import Scene
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.evaluation import EvalTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.problems import Problems
from rvbuild.project.toml.table import Context, Finding, Table


@dataclass(frozen=True)
class Parts:
    """The parts of a project that a task can change.

    Attributes
    ----------
    scenes
        The scenes.
    chip, predict, eval
        The tables of the file that give stages their settings.
    stride_px
        Default distance between the windows of a prediction, in pixels.
    """

    scenes: tuple[Scene, ...]
    chip: ChipTable
    predict: PredictTable
    eval: EvalTable
    stride_px: int


class Application(Protocol):
    """The interface of the modules of this package, one for each task."""

    def check(self, table: Table, context: Context) -> Iterator[Finding]:
        """Yield the problems of a table in this task, except for keys that `TaskSpec` lists."""

    def chip_px(self, chip: ChipTable, labels: list[Any]) -> int:
        """Return the side of chips, in pixels."""

    def apply(self, parts: Parts, labels: Mapping[Key, Any], problems: Problems) -> Parts:
        """Return the parts of a project, completed by the task."""


AnyTable = TypeVar("AnyTable", bound=Table)


def of_task(kind: type[AnyTable], table: Table, **update: Any) -> AnyTable:
    """Return a copy of a table as the subclass `kind` of a task, with some fields updated."""
    fields = {name: getattr(table, name) for name in type(table).model_fields}
    return kind.model_construct(_fields_set=set(table.model_fields_set), **{**fields, **update})
