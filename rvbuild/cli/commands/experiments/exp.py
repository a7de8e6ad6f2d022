"""`rvbuild exp`: the points of a project, their promotion and their removal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rvbuild.cli.report import duration, print_json
from rvbuild.cli.terminal import echo, styled
from rvbuild.errors import UsageError, counted, nearest
from rvbuild.project.model import Project
from rvbuild.project.toml.edit import toml_text
from rvbuild.project.toml.reading import shown
from rvbuild.session.experiments import promote, remove
from rvbuild.session.experiments.metrics import OWN, default_metric, require_metric
from rvbuild.session.experiments.page import write_page
from rvbuild.session.experiments.points import Point, find, remembered
from rvbuild.session.experiments.results import PROJECT, Row, best, ranked
from rvbuild.session.experiments.results import rows as results
from rvbuild.session.projects import one_project

_ACTIONS = ("promote", "rm")
_LONGEST = 40
"""Values in the table are cut to this length."""


def _notify(line: str) -> None:
    echo(line, err=True)


def exp(
    words: Sequence[str],
    metric: str | None,
    lowest: bool,
    html: bool,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Show points, or do what the first word says."""
    action = next((word for word in words[:1] if not word.endswith(".toml")), "")
    if action and action not in _ACTIONS:
        raise UsageError(f"exp {action}: expected promote or rm{nearest(action, _ACTIONS)}, or a project file (.toml)")
    ids = [word for word in words[1:] if not word.endswith(".toml")] if action else []
    files = [word for word in words if word.endswith(".toml")]
    if not action and (extra := [word for word in words if not word.endswith(".toml")]):
        raise UsageError(f"exp {extra[0]}: not a project file (.toml)")
    project = one_project(files, "exp")
    points = remembered(project.workspace / "cache", project)
    if action == "promote":
        if len(ids) != 1:
            raise UsageError("exp promote: expected the id of one point: rvbuild exp promote ID [PROJECT.toml]")
        return _promote(project, find(points, ids[0], project), dry_run)
    if action == "rm":
        if everything == bool(ids):
            raise UsageError("exp rm: expected ids of points, or --all: rvbuild exp rm ID… [PROJECT.toml]")
        chosen = points if everything else [find(points, id_, project) for id_ in ids]
        return _remove(project, chosen, dry_run)
    if everything or dry_run:
        raise UsageError("exp: --all applies to rm, -n to rm and promote")
    projects = [project, *(point.project for point in points if point.project is not None)]
    metric = metric or default_metric(projects)
    table = results(project, points, _notify, epochs=html)
    require_metric(metric, projects, {name for row in table for name in row.metrics})
    if as_json:
        print_table_json(table, metric, lowest)
    elif not points:
        echo(f"{project.title} has no points yet: rvbuild sweep {shown(project.path)} --grid KEY=VALUE,VALUE")
    else:
        print_table(table, metric, lowest)
    if html and points:
        path = write_page(project, ranked(table, metric, lowest=lowest), metric, best_of(table, metric, lowest))
        if not as_json:
            echo(f"  {path}")
    return 0


def best_of(table: Sequence[Row], metric: str, lowest: bool) -> Row | None:
    """Return the best row of a table."""
    return best(ranked(table, metric, lowest=lowest), metric)


def print_table(table: Sequence[Row], metric: str, lowest: bool) -> None:
    """Print rows, the best first and marked."""
    marked = best_of(table, metric, lowest)
    keys = list(dict.fromkeys(key for row in table for key in row.keys))
    header = ["", "point", *keys, metric, "cost", "state"]
    lines = [header]
    for row in ranked(table, metric, lowest=lowest):
        value = row.metrics.get(metric)
        lines.append(
            [
                "*" if row is marked else "",
                row.id,
                *(_value(row, key) for key in keys),
                "-" if value is None else f"{value:.4f}",
                duration(row.seconds + row.shared_seconds) if row.metrics else "-",
                row.state,
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        text = "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        echo(styled(text, "green") if number and line[0] else text)
    found = {name for row in table for name in row.metrics}
    if found and metric not in found:
        hint = nearest(metric, [name for name in found if name.startswith(f"{OWN}.")]) if metric.startswith(OWN) else ""
        echo(f"  no evaluation has a value of {metric}{hint}")


def _value(row: Row, key: str) -> str:
    if key not in row.keys:
        return "-" if row.id != PROJECT else ""
    value = row.keys[key]
    text = value if isinstance(value, str) else toml_text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def print_next(table: Sequence[Row], metric: str, lowest: bool, word: str) -> None:
    """Print what to do with the best point."""
    marked = best_of(table, metric, lowest)
    if marked is not None and marked.id != PROJECT:
        echo(f"  rvbuild exp promote {marked.id} {word}   writes the keys of the best point into the project file")


def print_table_json(table: Sequence[Row], metric: str, lowest: bool) -> None:
    """Print rows as one JSON object, the best first."""
    marked = best_of(table, metric, lowest)
    print_json(
        {
            "metric": metric,
            "best": None if marked is None else marked.id,
            "points": [_document(row) for row in ranked(table, metric, lowest=lowest)],
        }
    )


def _document(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "keys": dict(row.keys),
        "state": row.state,
        "message": row.message,
        "metrics": dict(row.metrics),
        "seconds": round(row.seconds, 3),
        "shared_seconds": round(row.shared_seconds, 3),
    }


def _promote(project: Project, point: Point, dry_run: bool) -> int:
    edit = promote.edit(project, point)
    if not edit.lines:
        echo(f"{edit.shown}: has these values already")
        return 0
    echo("\n".join(edit.lines))
    if not dry_run:
        edit.write()
        echo(f"{edit.shown}: written; `rvbuild build {edit.shown}` restores what the point has built")
    return 0


def _remove(project: Project, points: Sequence[Point], dry_run: bool) -> int:
    if not points:
        echo(f"{project.title} has no points")
        return 0
    if dry_run:
        for point in points:
            echo(f"would remove {point.id}  {', '.join(point.overrides())}")
        return 0
    count = remove.remove(project, points, _notify)
    echo(
        f"{counted(len(points), 'point')} removed, {counted(count, 'file')}; the store keeps the results, and "
        "`rvbuild cache gc` frees their space"
    )
    return 0
