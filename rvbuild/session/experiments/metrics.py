"""The metrics of evaluations by name: which ones a project will have, and their values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rvbuild.errors import UsageError, nearest
from rvbuild.project.model import Project
from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import evaluated

OWN = "own"
"""The first word of the user's own metrics."""
AVERAGE = "average"
"""The last item of the classes in `eval.json`."""


def figures(evaluation: Any, project: Project) -> dict[str, float]:
    """Return the metrics of an `eval.json` by name.

    `validation.mean_iou`; `validation.tree.iou` of a class; `own.metrics:cost` of a function that returns a number,
    `own.metrics:cost.NAME` of one that returns numbers by name.
    """
    values: dict[str, Any] = {}
    try:
        parts = evaluation.get("splits") or {
            split: {"overall": evaluation["overall"], "summary": evaluation["summary"]["overall"]}
            for split in _splits([project])
        }
        for split, part in parts.items():
            for name, value in part["summary"].items():
                values[f"{split}.{name}"] = value
            for item in part["overall"]:
                for name, value in item["metrics"].items():
                    values[f"{split}.{item['class_name']}.{name}"] = value
        for reference, results in (evaluation.get(OWN) or {}).items():
            for name, value in results.items():
                values[f"{OWN}.{reference}" if name == "value" else f"{OWN}.{reference}.{name}"] = value
    except (AttributeError, KeyError, TypeError):
        return {}
    return {name: float(value) for name, value in values.items() if type(value) in (int, float)}


def _splits(projects: Sequence[Project]) -> list[str]:
    """Return the splits that are evaluated in some of the projects."""
    return sorted({scene.split for project in projects for scene in evaluated(project)})


def default_metric(projects: Sequence[Project]) -> str:
    """Return the metric that points are sorted by: the first of the task, of validation scenes.

    Parameters
    ----------
    projects
        The project, and its points.

    Raises
    ------
    UsageError
        No validation scene is evaluated: the choice by test scenes is the user's.
    """
    name = SPECS[projects[0].task].metrics[0]
    splits = _splits(projects)
    if "validation" not in splits:
        hint = (
            f"; --metric test.{name} chooses by test scenes, whose metrics then say too much of the chosen one"
            if "test" in splits
            else ""
        )
        raise UsageError(
            f"{projects[0].title}: no validation scene is evaluated, so nothing says which point is best{hint}"
        )
    return f"validation.{name}"


def require_metric(metric: str, projects: Sequence[Project], found: Collection[str] = ()) -> None:
    """Require that an evaluation of one of the projects has a metric, before there is one.

    Of the user's own metrics the functions are known, but not all that they return.

    Parameters
    ----------
    metric
        As in `figures`.
    projects
        The project, and its points.
    found
        The metrics of earlier evaluations, which the projects need not have any more.

    Raises
    ------
    UsageError
        None has it; with the nearest name.
    """
    if metric not in found and (problem := _problem(metric, projects)):
        raise UsageError(f"--metric {metric}: {problem}")


def _problem(metric: str, projects: Sequence[Project]) -> str:
    """Return why no evaluation will have a metric; empty if one may have it."""
    own = list(dict.fromkeys(f"{OWN}.{name}" for project in projects for name in project.eval.metrics))
    splits = [*_splits(projects), *([OWN] if own else [])]
    split, _, rest = metric.partition(".")
    if not rest or split not in splits:
        example = f"{splits[0]}.{SPECS[projects[0].task].metrics[0]}" if splits[:1] not in ([], [OWN]) else ""
        such_as = f", such as {example}" if example else ""
        return f"expected SPLIT.NAME{such_as}; the evaluated splits are {', '.join(splits) or 'none'}"
    if split == OWN:
        if any(metric == name or metric.startswith(f"{name}.") for name in own):
            return ""
        return f"eval.metrics has no such function{nearest(metric, own)} ({', '.join(own)})"
    spec = SPECS[projects[0].task]
    of_all = [f"{split}.{name}" for name in spec.summary]
    class_name, dot, name = rest.rpartition(".")
    if not dot:
        known = (
            f"{', '.join(of_all)}, and of a class, such as {split}.{projects[0].classes[0].name}.{spec.of_classes[0]}"
        )
        return "" if metric in of_all else f"evaluations have no such metric{nearest(metric, of_all)} ({known})"
    classes = list(dict.fromkeys(item.name for project in projects for item in project.classes))
    if class_name not in (*classes, AVERAGE):
        return f'there is no class "{class_name}"{nearest(class_name, classes)} ({", ".join(classes)})'
    if name not in spec.of_classes:
        return f'classes have no metric "{name}"{nearest(name, spec.of_classes)} ({", ".join(spec.of_classes)})'
    return ""
