"""What builds have found out, as JSON data: evaluations, confusion matrices, training curves, states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rvbuild import tasks
from rvbuild.engine.cluster.running import hosts_of
from rvbuild.errors import UsageError
from rvbuild.project.applied.detection import BoxEvalTable, BoxPredictTable
from rvbuild.project.model import Project
from rvbuild.rules import common
from rvbuild.session.remarks.under_way import under_way
from rvbuild.stages.names import on_request
from rvbuild.view.looking import Seen

STAGES = {"prediction": "eval", "draft": "draft_eval"}
"""The stage that evaluates the model, and the one that evaluates the draft."""


def project_json(seen: Seen) -> dict[str, Any]:
    """Return what the page needs of the project: classes, scenes by split, states of artifacts, and what is wrong."""
    project = seen.project
    shared: dict[str, Any] = {"problems": list(seen.problems), "notes": list(seen.notes), "loaded": project is not None}
    if project is None:
        return shared
    hosts = hosts_json(seen)
    artifacts = [
        {
            "label": status.label,
            "stage": status.stage,
            "on_request": on_request(status.stage),
            "scene": status.scene,
            "state": status.state.value,
            "reasons": list(status.reasons),
            "seconds": status.seconds,
            "host": hosts.get(status.label),
        }
        for status in seen.states
    ]
    thresholds = {
        "score_thresh": project.predict.score_thresh if isinstance(project.predict, BoxPredictTable) else None,
        "iou_thresh": project.eval.iou_thresh if isinstance(project.eval, BoxEvalTable) else None,
    }
    return {
        **shared,
        "name": project.name,
        "task": project.task,
        "counted": tasks.get(project.task).COUNTED,
        "file": project.path.name,
        "path": _from_workspace(project),
        "classes": common.classes(project),
        "null_id": project.null_id,
        "scenes": [
            {"id": scene.id, "split": scene.split, "labelled": scene.labels is not None} for scene in project.scenes
        ],
        "artifacts": artifacts,
        **thresholds,
    }


def hosts_json(seen: Seen) -> dict[str, str]:
    """Return the label of each artifact that a host of a cluster builds now -> the name of the host."""
    if seen.project is None:
        return {}
    hosts = hosts_of(seen.project.workspace / "cache")
    names = {status.label: common.name(status.stage, status.project, status.scene) for status in seen.states}
    return {label: hosts[name] for label, name in names.items() if name in hosts}


def evaluation_json(seen: Seen, of: str = "prediction") -> dict[str, Any]:
    """Return the evaluation that the workspace shows, of the model or of the draft, and the confusion matrix of each
    scene; empty without one.
    """
    stage = STAGES.get(of)
    if stage is None:
        raise UsageError(f"there is no evaluation of {of!r}; expected one of {', '.join(STAGES)}")
    shown = seen.output(stage, None, "eval.json")
    if shown is None:
        return {}
    path, state = shown
    evaluation = _read(path)
    if evaluation is None:
        return {}
    project = seen.loaded()
    confusion = {}
    for scene in common.evaluated(project):
        counts = seen.output(stage, scene.id, "eval.json" if of == "draft" else f"{scene.id}.json")
        evaluated = None if counts is None else _read(counts[0])
        if evaluated is not None and "confusion" in evaluated:
            confusion[scene.id] = evaluated["confusion"]
    splits = {scene.id: scene.split for scene in project.scenes}
    return {"state": state.value, "evaluation": evaluation, "confusion": confusion, "splits": splits}


def training_json(seen: Seen) -> dict[str, Any]:
    """Return the log of the training that the workspace shows, an entry for each epoch, or of the one that has begun.

    `at` is the time of the last epoch of the latter, in seconds since the epoch. Empty without a training.
    """
    status = seen.by_name.get(("train", None))
    now = under_way(seen.loaded().workspace, status) if status is not None else None
    if now is not None and now.lines:
        return {"state": "begun", "epochs": now.lines, "at": now.at, "path": now.path}
    shown = seen.output("train", None, "log.jsonl")
    if shown is None:
        return {}
    try:
        lines = [json.loads(line) for line in shown[0].read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        return {}
    return {"state": shown[1].value, "epochs": lines}


def _from_workspace(project: Project) -> str:
    """Return the path of the project file as users of the workspace write it."""
    path, workspace = project.path.absolute(), project.workspace.absolute()
    return path.relative_to(workspace).as_posix() if path.is_relative_to(workspace) else str(path)


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None if the file is being replaced, or is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
