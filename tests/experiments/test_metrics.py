"""Names of metrics: they are known from the project, before anything is evaluated."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from rvbuild.errors import UsageError
from rvbuild.project.load import load
from rvbuild.project.model import Project
from rvbuild.project.tasks import SPECS
from rvbuild.session.experiments.metrics import default_metric, figures, require_metric
from rvbuild.session.experiments.points import make

from .test_promote import TEXT

CLASSES = [{"id": 0, "name": "a", "color": "#ff0000"}, {"id": 1, "name": "null", "color": "#000000"}]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    path = tmp_path / "p.toml"
    path.write_text(TEXT + '[eval]\nmetrics = ["mine:cost", "mine:share"]\n')
    return load(path)


@pytest.mark.parametrize("task", SPECS)
def test_tasks_declare_the_metrics_of_their_evaluations(task: str) -> None:
    spec = SPECS[task]
    module = importlib.import_module(f"{spec.module.rpartition('.')[0]}.report")
    evaluation, _ = module.report({}, CLASSES, 1)
    summary = evaluation["summary"]["overall"]
    assert set(spec.summary) == {name for name, value in summary.items() if not isinstance(value, dict)}
    for item in evaluation["overall"]:
        assert set(spec.of_classes) == item["metrics"].keys()
    assert spec.metrics[0] in spec.summary


@pytest.mark.parametrize(
    "metric",
    [
        "validation.mean_iou",
        "validation.house.iou",
        "validation.average.recall",
        "own.mine:cost",
        "own.mine:share.house",  # only the function knows what it returns
    ],
)
def test_names_of_the_project_are_taken(project: Project, metric: str) -> None:
    require_metric(metric, [project])


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("validation.mean_iuo", 'no such metric; did you mean "validation.mean_iou"?'),
        ("validation.average_precision", "(validation.overall_accuracy, validation.mean_iou, "),
        ("validation.hous.iou", 'there is no class "hous"; did you mean "house"? (house, other'),
        ("validation.house.iuo", 'classes have no metric "iuo"; did you mean "iou"? (iou, f1, '),
        ("test.mean_iou", "such as validation.mean_iou; the evaluated splits are validation, own"),
        ("mean_iou", "expected SPLIT.NAME, such as validation.mean_iou"),
        ("validation.", "expected SPLIT.NAME"),
        ("own.cost", 'no such function; did you mean "own.mine:cost"? (own.mine:cost, own.mine:share)'),
        ("own.mine:costs", 'did you mean "own.mine:cost"?'),
    ],
)
def test_other_names_are_refused(project: Project, metric: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_metric(metric, [project])
    assert str(caught.value).startswith(f"--metric {metric}: ") and message in str(caught.value)


def test_points_may_have_other_splits_and_classes(project: Project, tmp_path: Path) -> None:
    keys = {"scenes.validation": [], "scenes.test": ["b"], "classes.tree": "#00ff00"}
    (point,) = make(project.path, [keys])
    assert point.project is not None
    for metric in ("test.mean_iou", "validation.mean_iou", "test.tree.iou"):
        require_metric(metric, [project, point.project])
    with pytest.raises(UsageError, match=r"--metric test\.mean_iou chooses by test scenes"):
        default_metric([point.project])
    assert default_metric([point.project, project]) == "validation.mean_iou"


def test_names_of_earlier_evaluations_are_taken(project: Project) -> None:
    require_metric("validation.gone.iou", [project], found={"validation.gone.iou"})


def test_own_metrics_have_names(project: Project) -> None:
    evaluation = {
        "overall": [{"class_name": "house", "metrics": {"iou": 0.5, "f1": None}}],
        "summary": {"overall": {"mean_iou": 0.5, "averages_without_null": {"iou": 0.5}}},
        "own": {"mine:cost": {"value": 3}, "mine:share": {"house": 0.25, "other": None}},
    }
    assert figures(evaluation, project) == {
        "validation.mean_iou": 0.5,
        "validation.house.iou": 0.5,
        "own.mine:cost": 3.0,
        "own.mine:share.house": 0.25,
    }
