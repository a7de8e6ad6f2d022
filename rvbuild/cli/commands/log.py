"""The commands about the past: `log`, what ran when and why, and `diff`, two builds compared."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.cli.report import duration, moment, print_json, utc
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.history.compare import Comparer, Comparison
from rvbuild.engine.history.versions import Name, numbered, versions
from rvbuild.engine.store.state import Entry
from rvbuild.engine.store.store import Store
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import UsageError, counted, nearest
from rvbuild.session.names import STAGES, stages_of
from rvbuild.session.projects import load_all, load_known
from rvbuild.session.session import Session, session

_COLOURS = {"built": "green", "restored": "cyan", "failed": "red", "cleaned": "yellow"}
#: A line names at most so many reasons, and a comparison so many artifacts on one level.
_SHOWN = 12


def _say(line: str) -> None:
    echo(line, err=True)


def log(words: Sequence[str], count: int, as_json: bool) -> int:
    """Print the last `count` entries of the workspace's log, of the stage and the project that `words` name."""
    paths = [w for w in words if w.endswith(".toml")]
    wanted = [w for w in words if not w.endswith(".toml")]
    if len(wanted) > 1:
        raise UsageError(f"log {' '.join(wanted)}: one STAGE[:SCENE] at a time")
    projects = load_all([Path(p) for p in paths], ()) if paths else []
    root = projects[0].workspace if projects else Path.cwd()
    entries: list[tuple[Entry, int | None]] = []
    if (root / "cache" / "state.db").exists():
        workspace = Workspace(root, _say)
        try:
            entries = list(numbered(workspace.state.log()))
        finally:
            workspace.close()
    matching = _matching(entries, wanted, {p.name for p in projects})
    rows = [_row(entry, number) for entry, number in itertools.islice(matching, count)]
    if as_json:
        print_json({"log": rows})
    elif rows:
        _print_log(rows)
    else:
        echo("nothing was built here yet" if not wanted else f"the log has no entries for {wanted[0]}")
    return 0


def _matching(
    entries: Sequence[tuple[Entry, int | None]], wanted: Sequence[str], projects: set[str]
) -> Iterator[tuple[Entry, int | None]]:
    stage, colon, scene = wanted[0].partition(":") if wanted else ("", "", "")
    known = sorted({*STAGES, *(Name.of(e.artifact).stage for e, _ in entries)}) if wanted else []
    if wanted and stage not in known:
        raise UsageError(f"log {wanted[0]}: no stage {stage!r}{nearest(stage, known)} (stages: {', '.join(known)})")
    for entry, number in entries:
        name = Name.of(entry.artifact)
        if projects and name.project not in projects:
            continue
        if not wanted or (name.stage in stages_of(stage) and (not colon or name.scene == scene)):
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
        how = styled(f"{r['state']:8}", _COLOURS.get(r["state"]))
        took = "" if r["state"] == "cleaned" else duration(r["seconds"])
        reasons = "; ".join(r["reasons"][:_SHOWN]) + ("; …" if len(r["reasons"]) > _SHOWN else "")
        echo(f"{at}  {how}  {name:{width}}  {took:>11}  {reasons}".rstrip())


def diff(words: Sequence[str], as_json: bool) -> int:
    """Print how two builds of an artifact differ; the last two if only the artifact is named."""
    named = [w for w in words if not w.endswith(".toml")]
    if not 1 <= len(named) <= 2:
        raise UsageError("diff: give one build or two: rvbuild diff A [B] [PROJECT.toml]")
    projects = load_known([w for w in words if w.endswith(".toml")], (), _say)
    with session(projects, say=_say) as now:
        name, old = _build(now, named[0])
        if len(named) == 2:
            other, new = _build(now, named[1])
            if other != name:
                raise UsageError(
                    f"diff: {named[0]} and {named[1]} are builds of different artifacts, {name} and {other}"
                )
            old, new = old or _version(now, name, 0), new or _version(now, name, 0)
        else:
            old, new = old or _version(now, name, 1), _version(now, name, 0)
        store = now.workspace.store
        found = Comparer(now.workspace.state, store, now.plan.artifacts).compare(name, old, new)
        sides = [metrics(store, key) for key in (old, new)]
        rows = [[m, sides[0].get(m), sides[1].get(m)] for m in dict.fromkeys([*sides[0], *sides[1]])]
        if as_json:
            said = {**_json(found), "metrics": {m: [a, b] for m, a, b in rows}}
            print_json(said)
            return 0
        for key, sign in ((old, "-"), (new, "+")):
            action = store.action(key)
            when = "" if action is None else f"  built {moment(action.at)} in {duration(action.seconds)}"
            echo(f"{sign} {found.artifact.label()} {key}{when}")
        _print_comparison(found, "")
        _print_metrics(rows)
    return 0


def _build(now: Session, word: str) -> tuple[str, str | None]:
    """Return the artifact and the key that `word` names; no key for `STAGE[:SCENE]` without a version."""
    stage, at, number = word.rpartition("@")
    if at and number.isdigit():
        name = _one(now, stage)
        return name, _version(now, name, int(number))
    if re.fullmatch(r"[0-9a-f]{6,32}", word):
        found = {key: name for key, name in now.workspace.state.names().items() if key.startswith(word)}
        found = {key: name for key, name in found.items() if name in now.plan.artifacts}
        if len(found) == 1:
            ((key, name),) = found.items()
            return name, key
        how = "no build has such a key" if not found else f"{len(found)} builds have such keys: add more digits"
        raise UsageError(f"diff {word}: {how} (`rvbuild log --json` shows them)")
    return _one(now, word), None


def _one(now: Session, word: str) -> str:
    found = now.named(word)
    if len(found) > 1:
        which = ", ".join(
            sorted({a.project for a in found})
            if len({a.project for a in found}) > 1
            else [a.label() for a in found[:5]]
        )
        raise UsageError(f"diff {word}: there are several: {which}; name the project or the scene")
    return found[0].name


def _version(now: Session, name: str, number: int) -> str:
    found = versions(now.workspace.state, name)
    if number < len(found):
        return found[number].key
    label = now.plan.artifacts[name].label()
    if not found:
        raise UsageError(f"diff {label}: it was never built here")
    have = f"only {label}@0" if len(found) == 1 else f"{label}@0 to {label}@{len(found) - 1}"
    raise UsageError(f"diff {label}: there is no {label}@{number}; the log has {have}")


def _print_comparison(found: Comparison, indent: str) -> None:
    if not found.known:
        echo(f"{indent}  the store no longer has one of them (gc or clean), so the differences are not known")
    elif found.keys[0] == found.keys[1]:
        echo(f"{indent}  nothing differs")
    for reason in found.reasons[:_SHOWN]:
        echo(f"{indent}  {reason}")
    if len(found.reasons) > _SHOWN:
        echo(f"{indent}  … and {counted(len(found.reasons) - _SHOWN, 'more difference')}")
    for below in found.below[:_SHOWN]:
        echo(f"{indent}    {below.artifact.label()}{' (see above)' if below.seen else ''}")
        if not below.seen:
            _print_comparison(below, indent + "    ")


def _json(found: Comparison) -> dict[str, Any]:
    return {
        "project": found.artifact.project,
        "stage": found.artifact.stage,
        "scene": found.artifact.scene,
        "keys": list(found.keys),
        "known": found.known,
        "reasons": [str(r) for r in found.reasons],
        "below": [_json(b) for b in found.below if not b.seen],
    }


def metrics(store: Store, key: str) -> dict[str, float]:
    """Return the figures of the evaluation that `key` gave, by name; none if it gave no evaluation.

    A content is only compared here, so it is read without being verified.
    """
    action = store.action(key)
    if action is None or "eval.json" not in action.outputs:
        return {}
    try:
        data = json.loads(store.object(action.outputs["eval.json"][0]).read_bytes())
        figures = {name: v for name, v in data["summary"]["overall"].items() if not isinstance(v, dict)}
        for item in data["overall"]:
            figures |= {f"{item['class_name']} {name}": value for name, value in item["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def _print_metrics(rows: Sequence[Sequence[Any]]) -> None:
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, old, new in rows:
        change = "" if old is None or new is None or old == new else f"{new - old:+.4g}"
        echo(f"  {name:{width}}  {_figure(old):>12}  {_figure(new):>12}  {change}".rstrip())


def _figure(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
