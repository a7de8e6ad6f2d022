"""The eval stage over all scenes: their counts added up, as metrics in `eval.json`, as tables and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild import tasks
from rvbuild.progress import Progress
from rvbuild.stages.own_metrics import own_metrics, section

REPORT = "eval.md"


def run(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], outputs: Path, progress: Progress) -> None:
    """Merge the counts of scenes.

    Parameters
    ----------
    inputs
        `eval/<scene id>`: the `eval.json` of the scene.
    settings
        task, classes, null_id; `metrics`, the user's own, if there are any.
    outputs
        Receives `eval.json`, `eval.md` and pictures; the task says what is in them.
    progress
        Is told nothing: the work is short.

    Raises
    ------
    DataError
        A metric of the user's own fails.
    """
    per_scene: dict[str, Mapping[str, Any]] = {}
    for role, files in inputs.items():
        (path,) = files
        per_scene[role.removeprefix("eval/")] = json.loads(path.read_text(encoding="utf-8"))
    evaluation, texts = tasks.get(settings["task"]).report(per_scene, settings["classes"], settings["null_id"])
    if names := settings.get("metrics"):
        evaluation["own"] = own_metrics(names, evaluation, per_scene)
        texts = {**texts, REPORT: texts[REPORT] + section(evaluation["own"])}
    text = json.dumps(evaluation, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    (outputs / "eval.json").write_text(text + "\n", encoding="utf-8")
    for name, content in texts.items():
        (outputs / name).write_text(content, encoding="utf-8")
