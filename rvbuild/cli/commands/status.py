"""The commands that ask: `status`, `why`, `graph`. They plan with the same decisions as a build, and change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rvbuild.cli.report import duration, moment, one_a_line, print_json, size_text
from rvbuild.cli.session import Session, load_known, looked_at, project_paths, session
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.keys.packages import versions
from rvbuild.engine.plan import explain
from rvbuild.engine.plan.decide import State
from rvbuild.errors import UsageError, counted

_COLOURS = {
    "fresh": "green",
    "restorable": "cyan",
    "stale": "yellow",
    "waiting": "blue",
    "missing": "magenta",
    "failed": "red",
}
#: The states in which a stage may run.
_DUE = ("stale", "missing", "failed", "waiting")
#: `status` lists so many artifacts that are not fresh, without --verbose.
_LISTED = 40
#: The fill colours of a graph's nodes.
_FILLS = {
    State.FRESH: "#b7e4c7",
    State.RESTORABLE: "#a9def9",
    State.STALE: "#ffe066",
    State.WAITING: "#cdd7ff",
    State.MISSING: "#e7c6ff",
    State.FAILED: "#ff8fa3",
}


def _say(line: str) -> None:
    echo(line, err=True)


def rows(now: Session, artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return what `--json` says of each artifact."""
    seconds = now.workspace.state.last_seconds()
    return [_row(now, artifact, seconds.get(artifact.name)) for artifact in artifacts]


def _row(now: Session, artifact: Artifact, seconds: float | None) -> dict[str, Any]:
    planned = now.plan[artifact.name]
    record = planned.facts.record
    outputs = [o.path for o in record.outputs.values()] if record else []
    return {
        "project": artifact.project,
        "stage": artifact.stage,
        "scene": artifact.scene,
        "state": planned.decision.state.value,
        "reasons": [str(r) for r in planned.decision.reasons],
        "outputs": outputs,
        "key": planned.facts.key,
        "seconds": None if seconds is None else round(seconds, 3),
    }


def document(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the object that `status --json` prints."""
    return {"artifacts": list(rows), "summary": {s.value: sum(r["state"] == s.value for r in rows) for s in State}}


def print_rows(rows: Sequence[dict[str, Any]], several: bool) -> None:
    """Print a line for each artifact: state, name, reasons, and how long it took last time."""
    names = [
        (f"{r['project']} " if several else "") + (r["stage"] + (f":{r['scene']}" if r["scene"] else "")) for r in rows
    ]
    width = max(map(len, names), default=0)
    for name, r in zip(names, rows, strict=True):
        state = styled(f"{r['state']:10}", _COLOURS[r["state"]])
        took = (
            f"[{duration(r['seconds'])}] "
            if r["seconds"] is not None and r["state"] not in ("fresh", "restorable")
            else ""
        )
        echo(f"{state} {name:{width}}  {took}{'; '.join(r['reasons'])}".rstrip())


def print_table(rows: Sequence[dict[str, Any]], several: bool) -> None:
    """Print a line for each stage: how many of its artifacts are in each state, and how long the due ones took."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for r in rows:
        stages.setdefault((f"{r['project']} " if several else "") + r["stage"], []).append(r)
    width = max(map(len, stages), default=0)
    echo(" " * width + "".join(f"{s.value:>12}" for s in State) + "   last time")
    for stage, found in stages.items():
        counts = {s.value: sum(r["state"] == s.value for r in found) for s in State}
        cells = [styled(f"{n or '·':>12}", _COLOURS[state] if n else None) for state, n in counts.items()]
        known = [r["seconds"] for r in found if r["state"] in _DUE and r["seconds"] is not None]
        echo(f"{stage:{width}}{''.join(cells)}   {duration(sum(known)) if known else ''}".rstrip())


def summary_line(rows: Sequence[dict[str, Any]]) -> str:
    """Return the counts by state and the time to expect."""
    counts = document(rows)["summary"]
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no artifacts"
    due = [r for r in rows if r["state"] in _DUE]
    known = [r["seconds"] for r in due if r["seconds"] is not None]
    if known:
        unknown = f", {len(due) - len(known)} never timed" if len(known) < len(due) else ""
        said += f"; a run would take up to {duration(sum(known))}, by the last times{unknown}"
    return said


def status(words: Sequence[str], overrides: Sequence[str], as_json: bool, verbosity: int, trust: bool = False) -> int:
    """Print how many artifacts of each stage are in which state, those that are not fresh, and the time to expect."""
    if not words:
        try:
            project_paths(words)
        except UsageError as error:
            if as_json:
                print_json(document([]), one_a_line)
            else:
                echo(str(error))
            return 0
    projects = load_known(words, overrides, _say)
    with session(projects, say=_say, rules_may_run=lambda own: looked_at(own, trust)) as now:
        now.plan.look(now.artifacts)
        found = rows(now, now.artifacts)
        if as_json:
            print_json(document(found), one_a_line)
        elif verbosity >= 0:
            several = len(projects) > 1
            print_table(found, several)
            listed = [r for r in found if verbosity > 0 or r["state"] != "fresh"]
            if listed:
                echo()
            print_rows(listed if verbosity > 0 else listed[:_LISTED], several)
            if verbosity <= 0 and len(listed) > _LISTED:
                echo(f"… and {counted(len(listed) - _LISTED, 'more artifact')} not fresh (-v lists all)")
            echo("\n" + summary_line(found))
    return 0


def why(word: str, words: Sequence[str], overrides: Sequence[str], trust: bool = False) -> int:
    """Print the chain of causes of the artifacts that `word` names."""
    projects = load_known(words, overrides, _say)
    with session(projects, say=_say, rules_may_run=lambda own: looked_at(own, trust)) as now:
        asked = now.named(word)
        now.plan.look(now.plan.closure(a.name for a in asked))
        for artifact in asked:
            for link in explain.chain(now.plan, artifact.name):
                _print_link(link, len(projects) > 1)
            for path, note in now.plan.notes(artifact).items():
                echo(f"  {path} is {note}")
            for line in explain.drift(now.plan, artifact.name, versions()):
                echo(f"  built with another version, not a reason to build again: {line}")
    return 0


def _print_link(link: explain.Link, several: bool) -> None:
    indent = "  " * link.depth
    name = (f"{link.artifact.project} " if several else "") + link.artifact.label()
    state = styled(explain.MEANING[link.state], _COLOURS[link.state.value])
    echo(f"{indent}{name} {state}" + (" (see above)" if link.seen else ""))
    if not link.seen:
        if link.action is not None:
            size = sum(size for _, size in link.action.outputs.values())
            files = f"{len(link.action.outputs)} file{'s' if len(link.action.outputs) > 1 else ''}"
            built = f"built {moment(link.action.at)} in {duration(link.action.seconds)}"
            echo(f"{indent}  {files}, {size_text(size)}, {built}")
        for reason in link.reasons:
            echo(f"{indent}  because {reason}" if not str(reason).startswith("waits") else f"{indent}  {reason}")


def graph(words: Sequence[str], overrides: Sequence[str], dot: bool, trust: bool = False) -> int:
    """Print the graph of artifacts in Mermaid's or Graphviz' language, coloured by state."""
    projects = load_known(words, overrides, _say)
    with session(projects, say=_say, rules_may_run=lambda own: looked_at(own, trust)) as now:
        now.plan.look(now.artifacts)
        ids = {a.name: f"n{i}" for i, a in enumerate(now.artifacts)}
        lines = ["digraph rvbuild {", "  rankdir=LR; node [shape=box style=filled];"] if dot else ["graph LR"]
        for artifact in now.artifacts:
            state = now.plan[artifact.name].decision.state
            text = f"{artifact.project} {artifact.label()}" if len(projects) > 1 else artifact.label()
            if dot:
                label = _dot_text(text)
                lines.append(
                    f'  {ids[artifact.name]} [label="{label}" fillcolor="{_FILLS[state]}" tooltip="{state.value}"];'
                )
            else:
                lines.append(f'  {ids[artifact.name]}["{_mermaid_text(text)}"]:::{state.value}')
        arrow = "->" if dot else "-->"
        for artifact in now.artifacts:
            lines += [f"  {ids[n]} {arrow} {ids[artifact.name]}{';' if dot else ''}" for n in artifact.needs()]
        lines += ["}"] if dot else [f"  classDef {s.value} fill:{colour},stroke:#333" for s, colour in _FILLS.items()]
        echo("\n".join(lines))
    return 0


def _dot_text(text: str) -> str:
    """Return a text for double quotes in Graphviz' language, which also reads HTML entities there.

    >>> _dot_text("chip:a&amp;b")
    'chip:a&amp;amp;b'
    """
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _mermaid_text(text: str) -> str:
    """Return a text for double quotes in Mermaid's language, which reads HTML there, and `#quot;` as a quote.

    >>> _mermaid_text('chip:plot #1; "<b>"')
    'chip:plot #35;1; #quot;#lt;b#gt;#quot;'
    """
    for letter, name in (("#", "#35;"), ("&", "#amp;"), ("<", "#lt;"), (">", "#gt;"), ('"', "#quot;")):
        text = text.replace(letter, name)
    return text
