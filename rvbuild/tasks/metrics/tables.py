"""Evaluation results as JSON and as Markdown tables, shared by the reports of all tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, cast

from rvbuild.settings.classes import ClassId
from rvbuild.tasks.evaluation import ClassItem

Json = TypeVar("Json")
Class = TypeVar("Class", bound=ClassId)


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN for 0 / 0 and for NaN."""
    return part / whole if whole else math.nan


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def without_nan(value: Json) -> Json:
    """Return JSON data in which NaN is null; its type still says float."""
    return cast("Json", _without_nan(value))


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def without_null(classes: Sequence[Class], null_id: int) -> list[Class]:
    """Return the classes but null, in id order."""
    return [item for item in classes if item["id"] != null_id]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns: the first to the left, figures to the right."""
    lines = [[cell(text) for text in row] for row in (head, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        aligned = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
        return f"| {' | '.join(aligned)} |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(lines[0]), f"| {' | '.join(rule)} |", *(line(cells) for cells in lines[1:])])


def cell(text: str) -> str:
    """Return Markdown that cannot break a table or a heading."""
    return " ".join(text.split())


_MARKS = re.compile(r"[\\`*\[\]<>&!|~#$]|(?<![^\W_])_|_(?![^\W_])")
"""Characters with a meaning in Markdown; underscores inside a word have none."""


def escaped(name: str) -> str:
    r"""Return the name of a class or scene as Markdown that displays it unchanged.

    >>> print(escaped("low_vegetation"), escaped("![x](y)"), escaped("a | _b_"))
    low_vegetation \!\[x\](y) a \| \_b\_
    """
    return _MARKS.sub(r"\\\g<0>", name)


def figure(value: float) -> str:
    """Return a metric with three decimals, a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def unlabelled(items: Iterable[ClassItem], null_id: int) -> list[str]:
    """Return the names of the classes without labels, from the items of `eval.json`, except null."""
    of_classes = [item for item in items if item.get("class_id", null_id) != null_id]
    return [item["class_name"] for item in of_classes if not item["gt_count"]]


def unlabelled_note(items: Sequence[ClassItem], null_id: int) -> list[str]:
    """Return the paragraph of `eval.md` about the classes without labels; empty if there are none."""
    names = [cell(escaped(name)) for name in unlabelled(items, null_id)]
    if not names:
        return []
    they = "It has no recall, and is in no mean" if len(names) == 1 else "They have no recall, and are in no mean"
    return [f"Not shown by any label: {', '.join(names)}. {they}."]


def class_table(
    items: Sequence[ClassItem], average: Mapping[str, float], null_id: int, metrics: Mapping[str, str], counted: str
) -> str:
    """Return the Markdown table of the classes without null, and of their weighted average.

    Parameters
    ----------
    items
        The items of `eval.json`, the last of which is Raster Vision's average.
    average
        The last row: `averages_without_null` of the same pixels or cells.
    null_id
        The id of the class that is left out.
    metrics
        Heading of a column -> name of its metric.
    counted
        Heading of the last column: the counted unit.
    """
    rows = []
    for item in items[:-1]:
        if item["class_id"] != null_id:
            figures = [figure(item["metrics"][name]) for name in metrics.values()]
            share = figure(item["relative_frequency"])
            rows.append([escaped(item["class_name"]), *figures, share, f"{item['gt_count']:,}"])
    figures = [figure(average[name]) for name in metrics.values()]
    rows.append(["**weighted average**", *figures, "", f"{average['gt_count']:,}"])
    return table(["class", *metrics, "share", counted], rows)
