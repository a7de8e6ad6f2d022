"""The commands about the history: `log` (what ran, when and why) and `diff` (a comparison of two builds)."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.cli.report import duration, moment, print_json, utc
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.history.compare import Comparer, Comparison
from rvbuild.engine.history.versions import Name, numbered
from rvbuild.engine.store.state import Entry
from rvbuild.engine.store.state_file import state_file
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import UsageError, counted, nearest
from rvbuild.session.history import build_of, metrics, version_of
from rvbuild.session.names import STAGES, stages_of
from rvbuild.session.projects import load_all, load_available
from rvbuild.session.session import open_session

_COLOURS = {"built": "green", "restored": "cyan", "failed": "red", "cleaned": "yellow"}
#: Maximum number of reasons in a line, and of artifacts on one level of a comparison.
_SHOWN = 12


def _notify(line: str) -> None:
    echo(line, err=True)


def log(words: Sequence[str], count: int, as_json: bool) -> int:
    """Print the last `count` entries of the workspace's log, of the stage and the projects in `words`."""
    paths = [w for w in words if w.endswith(".toml")]
    names = [w for w in words if not w.endswith(".toml")]
    if len(names) > 1:
        raise UsageError(f"log {' '.join(names)}: one STAGE[:SCENE] at a time")
    projects = load_all([Path(p) for p in paths], ()) if paths else []
    root = projects[0].workspace if projects else Path.cwd()
    entries: list[tuple[Entry, int | None]] = []
    if state_file(root / "cache").exists():
        workspace = Workspace(root, _notify)
        try:
            entries = list(numbered(workspace.state.log()))
        finally:
            workspace.close()
    matching = _matching(entries, names, {p.name for p in projects})
    rows = [_row(entry, number) for entry, number in itertools.islice(matching, count)]
    if as_json:
        print_json({"log": rows})
    elif rows:
        _print_log(rows)
    else:
        echo("nothing was built here yet" if not names else f"the log has no entries for {names[0]}")
    return 0


def _matching(
    entries: Sequence[tuple[Entry, int | None]], names: Sequence[str], projects: set[str]
) -> Iterator[tuple[Entry, int | None]]:
    stage, colon, scene = names[0].partition(":") if names else ("", "", "")
    valid = sorted({*STAGES, *(Name.of(e.artifact).stage for e, _ in entries)}) if names else []
    if names and stage not in valid:
        raise UsageError(f"log {names[0]}: no stage {stage!r}{nearest(stage, valid)} (stages: {', '.join(valid)})")
    for entry, number in entries:
        name = Name.of(entry.artifact)
        if projects and name.project not in projects:
            continue
        if not names or (name.stage in stages_of(stage) and (not colon or name.scene == scene)):
            yield entry, number


def _row(entry: Entry, number: int | None) -> dict[str, Any]:
    name = Name.of(entry.artifact)
    return {
        "at": utc(entry.at),
        "project": name.project,
        "stage": name.stage,
        "scene": name.scene,
        "state": entry.event,
        "version": number,
        "key": entry.key or None,
        "seconds": round(entry.seconds, 3),
        "reasons": list(entry.reasons),
    }


def _print_log(rows: Sequence[Mapping[str, Any]]) -> None:
    several = len({r["project"] for r in rows}) > 1
    names = [
        (f"{r['project']} " if several else "")
        + Name(r["stage"], r["project"], r["scene"]).label()
        + ("" if r["version"] is None else f"@{r['version']}")
        for r in rows
    ]
    width = max(map(len, names))
    for name, r in zip(names, rows, strict=True):
        at = moment(datetime.datetime.fromisoformat(r["at"]).timestamp())
        state = styled(f"{r['state']:8}", _COLOURS.get(r["state"]))
        took = "" if r["state"] == "cleaned" else duration(r["seconds"])
        reasons = "; ".join(r["reasons"][:_SHOWN]) + ("; …" if len(r["reasons"]) > _SHOWN else "")
        echo(f"{at}  {state}  {name:{width}}  {took:>11}  {reasons}".rstrip())


def diff(words: Sequence[str], as_json: bool) -> int:
    """Print the differences of two builds of an artifact; of the last two if only the artifact is named."""
    builds = [w for w in words if not w.endswith(".toml")]
    if not 1 <= len(builds) <= 2:
        raise UsageError("diff: give one build or two: rvbuild diff A [B] [PROJECT.toml]")
    projects = load_available([w for w in words if w.endswith(".toml")], (), _notify)
    with open_session(projects, notify=_notify) as session:
        name, old = build_of(session, builds[0])
        if len(builds) == 2:
            other_name, new = build_of(session, builds[1])
            if other_name != name:
                raise UsageError(
                    f"diff: {builds[0]} and {builds[1]} are builds of different artifacts, {name} and {other_name}"
                )
            old, new = old or version_of(session, name, 0), new or version_of(session, name, 0)
        else:
            old, new = old or version_of(session, name, 1), version_of(session, name, 0)
        store = session.workspace.store
        comparison = Comparer(session.workspace.state, store, session.plan.artifacts).compare(name, old, new)
        sides = [metrics(store, key) for key in (old, new)]
        rows = [[m, sides[0].get(m), sides[1].get(m)] for m in dict.fromkeys([*sides[0], *sides[1]])]
        if as_json:
            document = {**_json(comparison), "metrics": {m: [a, b] for m, a, b in rows}}
            print_json(document)
            return 0
        for key, sign in ((old, "-"), (new, "+")):
            action = store.action(key)
            when = "" if action is None else f"  built {moment(action.at)} in {duration(action.seconds)}"
            echo(f"{sign} {comparison.artifact.label()} {key}{when}")
        _print_comparison(comparison, "")
        print_metrics(rows)
    return 0


def _print_comparison(comparison: Comparison, indent: str) -> None:
    if not comparison.known:
        echo(f"{indent}  the store no longer has one of them (gc or clean), so the differences are not known")
    elif comparison.keys[0] == comparison.keys[1]:
        echo(f"{indent}  nothing differs")
    for reason in comparison.reasons[:_SHOWN]:
        echo(f"{indent}  {reason}")
    if len(comparison.reasons) > _SHOWN:
        echo(f"{indent}  … and {counted(len(comparison.reasons) - _SHOWN, 'more difference')}")
    for below in comparison.below[:_SHOWN]:
        echo(f"{indent}    {below.artifact.label()}{' (see above)' if below.seen else ''}")
        if not below.seen:
            _print_comparison(below, indent + "    ")


def _json(comparison: Comparison) -> dict[str, Any]:
    return {
        "project": comparison.artifact.project,
        "stage": comparison.artifact.stage,
        "scene": comparison.artifact.scene,
        "keys": list(comparison.keys),
        "known": comparison.known,
        "reasons": [str(r) for r in comparison.reasons],
        "below": [_json(b) for b in comparison.below if not b.seen],
    }


def print_metrics(rows: Sequence[Sequence[Any]]) -> None:
    """Print figures of two sides, each with its name and the change."""
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, old, new in rows:
        change = "" if old is None or new is None or old == new else f"{new - old:+.4g}"
        echo(f"  {name:{width}}  {_figure(old):>12}  {_figure(new):>12}  {change}".rstrip())


def _figure(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
