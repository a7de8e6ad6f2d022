"""The eval stage over all scenes: their counts added up, as metrics in `eval.json`, as tables and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypeAlias

from typing_extensions import TypedDict

from rvbuild import tasks
from rvbuild.errors import classes_that
from rvbuild.progress import Progress
from rvbuild.settings.area import Split
from rvbuild.settings.classes import ClassSettings
from rvbuild.stages.evaluate.own_metrics import own_metrics, section
from rvbuild.tasks.evaluation import Counts, Evaluation
from rvbuild.tasks.metrics.tables import unlabelled

REPORT = "eval.md"

_Evaluation: TypeAlias = Evaluation[Mapping[str, object]]


class EvalMergeSettings(TypedDict):
    """The settings of the stage."""

    task: str
    classes: list[ClassSettings]
    null_id: int
    splits: NotRequired[dict[str, Split]]
    """Scene id → split, if scenes of several are evaluated."""
    metrics: NotRequired[list[str]]
    """The user's own, if there are any."""


def run(inputs: Mapping[str, Sequence[Path]], settings: EvalMergeSettings, outputs: Path, progress: Progress) -> None:
    """Merge the counts of scenes.

    Parameters
    ----------
    inputs
        `eval/<scene id>`: the `eval.json` of the scene.
    settings
        See `EvalMergeSettings`. With `splits`, each split has figures of its own, and the test scenes come first: those
        of validation have chosen the model.
    outputs
        Receives `eval.json`, `eval.md` and pictures; their content depends on the task.
    progress
        Receives notes about classes without labels.

    Raises
    ------
    DataError
        A user's metric fails.
    """
    per_scene: dict[str, Counts] = {}
    for role, files in inputs.items():
        (path,) = files
        per_scene[role.removeprefix("eval/")] = json.loads(path.read_text(encoding="utf-8"))
    evaluation, texts = _by_split(per_scene, settings)
    _tell_unlabelled(evaluation, settings["null_id"], progress)
    if names := settings.get("metrics"):
        evaluation["own"] = own_metrics(names, evaluation, per_scene)
        texts = {**texts, REPORT: texts[REPORT] + section(evaluation["own"])}
    text = json.dumps(evaluation, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    (outputs / "eval.json").write_text(text + "\n", encoding="utf-8")
    for name, content in texts.items():
        (outputs / name).write_text(content, encoding="utf-8")


def _tell_unlabelled(evaluation: _Evaluation, null_id: int, progress: Progress) -> None:
    """Report classes that cannot be evaluated, for each split if there are several."""
    parts = {f"{split} scene": part["overall"] for split, part in evaluation.get("splits", {}).items()}
    for scene, items in (parts or {"evaluated scene": evaluation["overall"]}).items():
        if names := unlabelled(items, null_id):
            effect = classes_that(names, "has no recall and is in no mean", "have no recall and are in no mean")
            progress.note(f"no {scene} has a label of {effect}")


def _by_split(per_scene: Mapping[str, Counts], settings: EvalMergeSettings) -> tuple[_Evaluation, dict[str, str]]:
    """Return the content of `eval.json`, and of the files beside it by name.

    Of several splits, `overall` and `summary.overall` are those of the test scenes, `summary.split` says so, and
    `splits` holds both for each split; the tables of the others follow in `eval.md`.
    """
    task, classes, null_id = tasks.get(settings["task"]), settings["classes"], settings["null_id"]
    evaluation, texts = task.report(per_scene, classes, null_id)
    split_of = settings.get("splits", {})
    splits = [split for split in ("test", "validation") if split in split_of.values()]
    if len(splits) < 2:
        return evaluation, texts
    reports = {
        split: task.report({id_: per_scene[id_] for id_ in per_scene if split_of[id_] == split}, classes, null_id)
        for split in splits
    }
    first, files = reports[splits[0]]
    pages = [_titled(files["eval.md"], split, pictures=split == splits[0]) for split, (_, files) in reports.items()]
    evaluation["overall"] = first["overall"]
    evaluation["summary"]["overall"], evaluation["summary"]["split"] = first["summary"]["overall"], splits[0]
    evaluation["splits"] = {
        split: {"overall": report["overall"], "summary": report["summary"]["overall"]}
        for split, (report, _) in reports.items()
    }
    return evaluation, {**files, REPORT: "\n".join(pages)}


def _titled(page: str, split: str, *, pictures: bool) -> str:
    """Return the page of a split with its title; pictures are drawn of one split alone."""
    lines = page.replace("# Evaluation\n", f"# Evaluation of the {split} scenes\n", 1).splitlines()
    return "\n".join(line for line in lines if pictures or not line.startswith("![")) + "\n"
