"""The eval stage over all scenes: their counts added up, as metrics in `eval.json`, as tables and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild import tasks
from rvbuild.errors import classes_that
from rvbuild.progress import Progress
from rvbuild.stages.evaluate.own_metrics import own_metrics, section
from rvbuild.tasks.metrics.tables import unlabelled

REPORT = "eval.md"


def run(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], outputs: Path, progress: Progress) -> None:
    """Merge the counts of scenes.

    Parameters
    ----------
    inputs
        `eval/<scene id>`: the `eval.json` of the scene.
    settings
        task, classes, null_id; `splits`, scene id → split, if scenes of several are evaluated. What is said of all is
        then said of each split, and first of the test scenes: those of validation have chosen the model. `metrics`,
        the user's own, if there are any.
    outputs
        Receives `eval.json`, `eval.md` and pictures; their content depends on the task.
    progress
        Receives notes about classes without labels.

    Raises
    ------
    DataError
        A user's metric fails.
    """
    per_scene: dict[str, Mapping[str, Any]] = {}
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


def _tell_unlabelled(evaluation: Mapping[str, Any], null_id: int, progress: Progress) -> None:
    """Report classes that cannot be evaluated, for each split if there are several."""
    parts = {f"{split} scene": part["overall"] for split, part in evaluation.get("splits", {}).items()}
    for scene, items in (parts or {"evaluated scene": evaluation["overall"]}).items():
        if names := unlabelled(items, null_id):
            said = classes_that(names, "has no recall and is in no mean", "have no recall and are in no mean")
            progress.note(f"no {scene} has a label of {said}")


def _by_split(
    per_scene: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the content of `eval.json`, and of the files beside it by name.

    Of several splits, `overall` and `summary.overall` are those of the test scenes, `summary.split` says so, and
    `splits` holds both for each split; the tables of the others follow in `eval.md`.
    """
    task, classes, null_id = tasks.get(settings["task"]), settings["classes"], settings["null_id"]
    evaluation, texts = task.report(per_scene, classes, null_id)
    splits: Mapping[str, str] = settings.get("splits") or {}
    names = [split for split in ("test", "validation") if split in splits.values()]
    if len(names) < 2:
        return evaluation, texts
    found = {
        split: task.report({id_: per_scene[id_] for id_ in per_scene if splits[id_] == split}, classes, null_id)
        for split in names
    }
    of_split = {
        split: {"overall": one["overall"], "summary": one["summary"]["overall"]} for split, (one, _) in found.items()
    }
    first, files = names[0], found[names[0]][1]
    pages = [_titled(text["eval.md"], split, pictures=split == first) for split, (_, text) in found.items()]
    summary = {**evaluation["summary"], "overall": of_split[first]["summary"], "split": first}
    return (
        {**evaluation, "overall": of_split[first]["overall"], "summary": summary, "splits": of_split},
        {**files, "eval.md": "\n".join(pages)},
    )


def _titled(page: str, split: str, *, pictures: bool) -> str:
    """Return the page of a split with its title; pictures are drawn of one split alone."""
    lines = page.replace("# Evaluation\n", f"# Evaluation of the {split} scenes\n", 1).splitlines()
    return "\n".join(line for line in lines if pictures or not line.startswith("![")) + "\n"
