"""The metrics of all folds: the mean and the deviation of each, by class."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from typing_extensions import TypedDict

from rvbuild.errors import DataError
from rvbuild.progress import Progress

JSON, TABLE = "folds.json", "folds.md"
_MEASURES = ("iou", "f1", "precision", "recall", "ap50", "ap", "average_precision")
"""The metrics of classes in the table, where there are some; `folds.json` has all."""

Figures: TypeAlias = dict[str, list[float | None]]
"""Name → the value in each fold."""


class SummarySettings(TypedDict):
    """The settings of the stage."""

    folds: int


def run(inputs: Mapping[str, Sequence[Path]], settings: SummarySettings, outputs: Path, progress: Progress) -> None:
    """Write the mean and the standard deviation of all metrics over the folds.

    Parameters
    ----------
    inputs
        `eval/<fold>`: the `eval.json` of the validation scenes of the fold.
    settings
        See `SummarySettings`.
    outputs
        Receives `folds.json` and `folds.md`.
    progress
        Receives nothing.

    Raises
    ------
    DataError
        An evaluation cannot be read.
    """
    overall: list[Mapping[str, Any]] = []
    classes: list[Mapping[str, Mapping[str, Any]]] = []
    for fold in range(settings["folds"]):
        (path,) = inputs[f"eval/{fold}"]
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            overall.append(content["summary"]["overall"])
            classes.append({item["class_name"]: item["metrics"] for item in content["overall"]})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is no evaluation: {error}") from error
    names = dict.fromkeys(name for items in classes for name in items)
    summary = {
        "folds": settings["folds"],
        "overall": _summarized(overall),
        "classes": {name: _summarized([items.get(name, {}) for items in classes]) for name in names},
    }
    text = json.dumps(summary, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    (outputs / JSON).write_text(text + "\n", encoding="utf-8")
    (outputs / TABLE).write_text(_table(summary), encoding="utf-8")


def _summarized(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the mean, the standard deviation of the sample, and the values of each metric; None where unknown."""
    names = dict.fromkeys(name for metrics in folds for name, value in metrics.items() if _is_number(value))
    return {name: _statistics([metrics.get(name) for metrics in folds]) for name in names}


def _statistics(values: Sequence[Any]) -> dict[str, Any]:
    known = [float(value) for value in values if _is_number(value)]
    mean = math.fsum(known) / len(known)
    squares = math.fsum((value - mean) ** 2 for value in known)
    deviation = math.sqrt(squares / (len(known) - 1)) if len(known) > 1 else None
    return {"mean": mean, "std": deviation, "values": [v if _is_number(v) else None for v in values]}


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _table(summary: Mapping[str, Any]) -> str:
    lines = [
        "# Cross-validation",
        "",
        f"Mean ± standard deviation over {summary['folds']} folds. Each model is evaluated where it has not learned.",
        "",
        "| | " + " | ".join(f"fold {fold}" for fold in range(summary["folds"])) + " | mean ± deviation |",
        "|---|" + "---:|" * (summary["folds"] + 1),
    ]
    for name, item in summary["overall"].items():
        if not name.endswith("_px"):
            lines.append(_line(name, item))
    for class_name, metrics in summary["classes"].items():
        lines += [_line(f"{class_name} {name}", metrics[name]) for name in _MEASURES if name in metrics]
    return "\n".join(lines) + "\n"


def _line(name: str, item: Mapping[str, Any]) -> str:
    values = " | ".join("–" if value is None else f"{value:.4g}" for value in item["values"])
    return f"| {name} | {values} | {spread(item)} |"


def spread(item: Mapping[str, Any]) -> str:
    """Return a mean with its deviation, for people.

    >>> spread({"mean": 0.5, "std": 0.0123})
    '0.500 ± 0.012'
    """
    return f"{item['mean']:.3f}" + ("" if item["std"] is None else f" ± {item['std']:.3f}")
