"""`rvbuild diff` of points and projects."""

from __future__ import annotations

from collections.abc import Sequence

from rvbuild.cli.commands.log import print_metrics
from rvbuild.cli.report import duration, print_json
from rvbuild.cli.terminal import echo
from rvbuild.errors import UsageError
from rvbuild.project.toml.edit import toml_text
from rvbuild.session.experiments.compare import Side, different_keys, side
from rvbuild.session.experiments.points import find, is_id, remembered
from rvbuild.session.experiments.results import PROJECT
from rvbuild.session.projects import one_project


def compares(words: Sequence[str]) -> bool:
    """Tell whether the words of `diff` name points or two projects, and no builds."""
    names = [word for word in words if not word.endswith(".toml")]
    return any(map(is_id, names)) if names else len(words) == 2


def compare(words: Sequence[str], as_json: bool) -> int:
    """Print what differs between two points, a point and its project, or two projects."""
    names = [word for word in words if not word.endswith(".toml")]
    files = [word for word in words if word.endswith(".toml")]
    if len(names) > 2:
        raise UsageError("diff: give two points at most: rvbuild diff ID [ID] [PROJECT.toml]")
    if names:
        project = one_project(files, "diff")
        points = remembered(project.workspace / "cache", project)
        chosen = [find(points, name, project) for name in names]
        sides = [side(project, point, point.id, _notify) for point in chosen]
        if len(sides) == 1:
            sides.insert(0, side(project, None, PROJECT, _notify))
    else:
        sides = [side(one_project([file], "diff"), None, file, _notify) for file in files]
    _print(sides[0], sides[1], as_json)
    return 0


def _notify(line: str) -> None:
    echo(line, err=True)


def _print(a: Side, b: Side, as_json: bool) -> None:
    keys = different_keys(a, b)
    metrics = [[m, a.row.metrics.get(m), b.row.metrics.get(m)] for m in dict.fromkeys([*a.row.metrics, *b.row.metrics])]
    if as_json:
        print_json(
            {
                "sides": [{"label": s.label, "state": s.row.state, "seconds": round(_seconds(s), 3)} for s in (a, b)],
                "keys": {key: [a.keys.get(key), b.keys.get(key)] for key in keys},
                "metrics": {name: [old, new] for name, old, new in metrics},
            }
        )
        return
    for one, sign in ((a, "-"), (b, "+")):
        cost = f"  built in {duration(_seconds(one))}" if one.row.metrics else ""
        echo(f"{sign} {one.label}  {one.row.state}{cost}")
    for key in keys:
        old, new = (toml_text(s.keys[key]) if key in s.keys else "not set" for s in (a, b))
        echo(f"  {key}: {old} → {new}")
    if not keys:
        echo("  no key differs")
    print_metrics(metrics)


def _seconds(side: Side) -> float:
    return side.row.seconds + side.row.shared_seconds
