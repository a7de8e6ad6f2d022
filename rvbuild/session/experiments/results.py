"""What the points of a project have given: metrics, costs and states, in one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import State
from rvbuild.project.model import Project
from rvbuild.session.experiments.build import Variants
from rvbuild.session.experiments.grid import Keys
from rvbuild.session.experiments.metrics import figures
from rvbuild.session.experiments.points import Point
from rvbuild.session.session import Session

PROJECT = "project"
"""The row of the project file itself."""


@dataclass(frozen=True)
class Row:
    """A point and what it has given.

    Attributes
    ----------
    id
        Of the point, or `project`.
    keys
        What it sets.
    state
        `done`, `stale` (the project file or data have changed since), `failed`, `not built`, or `invalid`.
    message
        Why it failed or is invalid.
    metrics
        Name → value, of the evaluation in the workspace; see `metrics.figures`.
    seconds
        What building its own artifacts took.
    shared_seconds
        What building the artifacts took that it shares with the project.
    log
        The epochs of its training, as in `log.jsonl`.
    """

    id: str
    keys: Keys
    state: str
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    shared_seconds: float = 0.0
    log: Sequence[Mapping[str, Any]] = ()


def rows(
    project: Project, points: Sequence[Point], notify: Callable[[str], None], *, epochs: bool = False
) -> list[Row]:
    """Return a row for the project, if it is evaluated, and for each point; with `epochs`, also their logs."""
    loaded = [point.project for point in points if point.project is not None]
    variants = Variants(project, loaded)
    with variants.opened(notify) as session:
        every = []
        own = [a for a in session.artifacts if a.project == project.name]
        base = _row(session, PROJECT, {}, project, own, epochs)
        if base.metrics:
            every.append(base)
        for point in points:
            if point.project is None:
                every.append(Row(point.id, point.keys, "invalid", "; ".join(point.problems)))
            else:
                of_point = variants.of(session, point.project)
                every.append(_row(session, point.id, point.keys, point.project, of_point, epochs))
    return every


def row_of(project: Project, point: Point | None, notify: Callable[[str], None]) -> Row:
    """Return the row of a point, or of the project."""
    if point is None:
        with Variants(project, []).opened(notify) as session:
            return _row(session, PROJECT, {}, project, session.artifacts, epochs=False)
    if point.project is None:
        return Row(point.id, point.keys, "invalid", "; ".join(point.problems))
    variants = Variants(project, [point.project])
    with variants.opened(notify) as session:
        return _row(session, point.id, point.keys, point.project, variants.of(session, point.project), epochs=False)


def _row(session: Session, id_: str, keys: Keys, project: Project, artifacts: Sequence[Artifact], epochs: bool) -> Row:
    evaluation = next((a for a in artifacts if a.stage == "eval" and a.scene is None), None)
    closure = session.plan.closure([evaluation.name]) if evaluation is not None else list(artifacts)
    session.plan.examine(closure)
    own, shared = 0.0, 0.0
    for artifact in closure:
        seconds = _result(session, artifact).seconds
        own, shared = (own + seconds, shared) if artifact.project == project.name else (own, shared + seconds)
    metrics: dict[str, float] = {}
    state, message = "not built", ""
    if evaluation is not None:
        result = _result(session, evaluation)
        if (path := result.files.get("eval.json")) is not None:
            metrics = figures(_json(path), project)
            state = "done" if result.is_current else "stale"
    if state != "done":
        failures = [(a.label(), session.plan[a.name].facts.failure) for a in closure]
        if texts := [f"{label}: {failure}" for label, failure in failures if failure]:
            state, message = "failed", "; ".join(texts)
    log: list[Mapping[str, Any]] = []
    training = next((a for a in closure if a.stage == "train"), None)
    if epochs and training is not None and (path := _result(session, training).files.get("log.jsonl")) is not None:
        log = _json_lines(path)
    return Row(id_, keys, state, message, metrics, own, shared, log)


class _Result(NamedTuple):
    """What there is of an artifact: its files by name, and how long they took; an earlier one if not current."""

    files: Mapping[str, Path]
    seconds: float
    is_current: bool


def _result(session: Session, artifact: Artifact) -> _Result:
    """Return the result in the workspace or, where the workspace has another, the one in the store."""
    planned, workspace = session.plan[artifact.name], session.workspace
    if planned.decision.state is State.RESTORABLE and planned.action is not None:
        stored = {name: workspace.store.object(digest) for name, (digest, _) in planned.action.outputs.items()}
        return _Result(stored, planned.action.seconds, True)
    record = planned.facts.record
    if record is None or record.cleaned:
        return _Result({}, 0.0, False)
    paths = {name: workspace.root / output.path for name, output in record.outputs.items()}
    return _Result(paths, record.seconds, planned.decision.state is State.FRESH)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _json_lines(path: Path) -> list[Mapping[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def ranked(every: Sequence[Row], metric: str, *, lowest: bool = False) -> list[Row]:
    """Return the rows, the best first; equal ones by their cost, and those without the metric last."""

    def place(row: Row) -> tuple[bool, float, float, str]:
        value = row.metrics.get(metric)
        order = 0.0 if value is None else value if lowest else -value
        return value is None, order, row.seconds, row.id

    return sorted(every, key=place)


def best(every: Sequence[Row], metric: str) -> Row | None:
    """Return the first of ranked rows that is done; None if none has the metric."""
    return next((row for row in every if row.state == "done" and metric in row.metrics), None)
