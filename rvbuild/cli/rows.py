"""The states of artifacts as lines and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rvbuild.cli.report import duration
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State

COLOURS = {
    State.FRESH: "green",
    State.RESTORABLE: "cyan",
    State.STALE: "yellow",
    State.WAITING: "blue",
    State.MISSING: "magenta",
    State.FAILED: "red",
}
#: The states in which a stage may run.
_DUE = (State.STALE, State.MISSING, State.FAILED, State.WAITING)


def document(rows: Sequence[ArtifactStatus]) -> dict[str, Any]:
    """Return the object that `status --json` prints."""
    return {"artifacts": [_json(row) for row in rows], "summary": _counts(rows)}


def _json(row: ArtifactStatus) -> dict[str, Any]:
    return {
        "project": row.project,
        "stage": row.stage,
        "scene": row.scene,
        "state": row.state.value,
        "reasons": list(row.reasons),
        "outputs": list(row.outputs),
        "key": row.key,
        "seconds": row.seconds,
    }


def _counts(rows: Sequence[ArtifactStatus]) -> dict[str, int]:
    """Return state → number of artifacts."""
    counts = Counter(row.state for row in rows)
    return {state.value: counts[state] for state in State}


def print_rows(rows: Sequence[ArtifactStatus], several: bool) -> None:
    """Print a line for each artifact: state, name, duration of the last build, and reasons."""
    names = [(f"{row.project} " if several else "") + row.label for row in rows]
    width = max(map(len, names), default=0)
    for name, row in zip(names, rows, strict=True):
        state = styled(f"{row.state.value:10}", COLOURS[row.state])
        shows_time = row.seconds is not None and row.state not in (State.FRESH, State.RESTORABLE)
        took = f"[{duration(row.seconds or 0.0)}] " if shows_time else ""
        echo(f"{state} {name:{width}}  {took}{'; '.join(row.reasons)}".rstrip())


def print_table(rows: Sequence[ArtifactStatus], several: bool) -> None:
    """Print a line for each stage: counts by state, and the last durations of the artifacts to be built."""
    stages: dict[str, list[ArtifactStatus]] = {}
    for row in rows:
        stages.setdefault((f"{row.project} " if several else "") + row.stage, []).append(row)
    width = max(map(len, stages), default=0)
    echo(" " * width + "".join(f"{s.value:>12}" for s in State) + "   last time")
    for stage, members in stages.items():
        counts = Counter(row.state for row in members)
        cells = [styled(f"{counts[s] or '·':>12}", COLOURS[s] if counts[s] else None) for s in State]
        seconds = [row.seconds for row in members if row.state in _DUE and row.seconds is not None]
        echo(f"{stage:{width}}{''.join(cells)}   {duration(sum(seconds)) if seconds else ''}".rstrip())


def summary_line(rows: Sequence[ArtifactStatus]) -> str:
    """Return the counts by state and the expected time."""
    summary = ", ".join(f"{n} {state}" for state, n in _counts(rows).items() if n) or "no artifacts"
    due = [row for row in rows if row.state in _DUE]
    seconds = [row.seconds for row in due if row.seconds is not None]
    if seconds:
        unknown = f", {len(due) - len(seconds)} never timed" if len(seconds) < len(due) else ""
        summary += f"; a run would take up to {duration(sum(seconds))}, judging by the last runs{unknown}"
    return summary
