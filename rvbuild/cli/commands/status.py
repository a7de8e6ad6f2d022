"""The commands `status`, `why` and `graph`, which plan with the same decisions as a build and change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rvbuild.cli.report import duration, moment, one_a_line, print_json, size_text
from rvbuild.cli.rows import COLOURS, document, print_rows, print_table, summary_line
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.plan import explain
from rvbuild.engine.plan.decide import State
from rvbuild.errors import UsageError, counted
from rvbuild.session.projects import load_available, project_paths
from rvbuild.session.remarks.undecided import undecided
from rvbuild.session.remarks.under_way import on_hosts, sentences
from rvbuild.session.session import may_run_rules, open_session
from rvbuild.session.status import Cause, explanations, statuses
from rvbuild.stages.names import on_request

#: Maximum number of artifacts that `status` lists without --verbose.
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


def _notify(line: str) -> None:
    echo(line, err=True)


def status(words: Sequence[str], overrides: Sequence[str], as_json: bool, verbosity: int, trust: bool = False) -> int:
    """Print the counts by stage and state, the artifacts that are not fresh, and the expected time."""
    if not words:
        try:
            project_paths(words)
        except UsageError as error:
            if as_json:
                print_json(document([]), one_a_line)
            else:
                echo(str(error))
            return 0
    projects = load_available(words, overrides, _notify)
    with open_session(
        projects, notify=_notify, rules_may_run=lambda with_rules: may_run_rules(with_rules, trust)
    ) as session:
        session.plan.examine(session.artifacts)
        rows = statuses(session, session.artifacts)
        if as_json:
            print_json(document(rows), one_a_line)
        elif verbosity >= 0:
            several = len(projects) > 1
            print_table(rows, several)
            listed = [row for row in rows if verbosity > 0 or row.state is not State.FRESH]
            if listed:
                echo()
            print_rows(listed if verbosity > 0 else listed[:_LISTED], several)
            if verbosity <= 0 and len(listed) > _LISTED:
                echo(f"… and {counted(len(listed) - _LISTED, 'more artifact')} not fresh (-v lists all)")
            echo("\n" + summary_line(rows))
            root = session.workspace.root
            for line in (*on_hosts(root, rows), *sentences(root, rows), *undecided(root, rows)):
                echo(line)
    return 0


def why(word: str, words: Sequence[str], overrides: Sequence[str], trust: bool = False) -> int:
    """Print the chain of causes of the artifacts that `word` names."""
    projects = load_available(words, overrides, _notify)
    on_demand = on_request(word.partition(":")[0])
    with open_session(
        projects, notify=_notify, rules_may_run=lambda with_rules: may_run_rules(with_rules, trust), requested=on_demand
    ) as session:
        for explanation in explanations(session, word):
            for cause in explanation.causes:
                _print_cause(cause, len(projects) > 1)
            for path, note in explanation.notes.items():
                echo(f"  {path} is {note}")
            for line in explanation.drift:
                echo(f"  built with another version (no reason to build again): {line}")
    return 0


def _print_cause(cause: Cause, several: bool) -> None:
    indent = "  " * cause.depth
    name = (f"{cause.project} " if several else "") + cause.label
    state = styled(explain.MEANING[cause.state], COLOURS[cause.state])
    echo(f"{indent}{name} {state}" + (" (see above)" if cause.seen else ""))
    if not cause.seen:
        if (stored := cause.stored) is not None:
            files = f"{stored.files} file{'s' if stored.files > 1 else ''}"
            built = f"built {moment(stored.at)} in {duration(stored.seconds)}"
            echo(f"{indent}  {files}, {size_text(stored.size)}, {built}")
        for reason in cause.reasons:
            echo(f"{indent}  because {reason}" if not reason.startswith("waits") else f"{indent}  {reason}")


def graph(words: Sequence[str], overrides: Sequence[str], dot: bool, trust: bool = False) -> int:
    """Print the graph of artifacts in the language of Mermaid or Graphviz, coloured by state."""
    projects = load_available(words, overrides, _notify)
    with open_session(
        projects, notify=_notify, rules_may_run=lambda with_rules: may_run_rules(with_rules, trust)
    ) as session:
        session.plan.examine(session.artifacts)
        ids = {a.name: f"n{i}" for i, a in enumerate(session.artifacts)}
        lines = ["digraph rvbuild {", "  rankdir=LR; node [shape=box style=filled];"] if dot else ["graph LR"]
        for artifact in session.artifacts:
            state = session.plan[artifact.name].decision.state
            text = f"{artifact.project} {artifact.label()}" if len(projects) > 1 else artifact.label()
            if dot:
                label = _dot_text(text)
                lines.append(
                    f'  {ids[artifact.name]} [label="{label}" fillcolor="{_FILLS[state]}" tooltip="{state.value}"];'
                )
            else:
                lines.append(f'  {ids[artifact.name]}["{_mermaid_text(text)}"]:::{state.value}')
        arrow = "->" if dot else "-->"
        for artifact in session.artifacts:
            lines += [f"  {ids[n]} {arrow} {ids[artifact.name]}{';' if dot else ''}" for n in artifact.needs()]
        lines += ["}"] if dot else [f"  classDef {s.value} fill:{colour},stroke:#333" for s, colour in _FILLS.items()]
        echo("\n".join(lines))
    return 0


def _dot_text(text: str) -> str:
    """Escape a text for double quotes in Graphviz, which also interprets HTML entities.

    >>> _dot_text("chip:a&amp;b")
    'chip:a&amp;amp;b'
    """
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _mermaid_text(text: str) -> str:
    """Escape a text for double quotes in Mermaid, which interprets HTML, and `#quot;` as a quote.

    >>> _mermaid_text('chip:plot #1; "<b>"')
    'chip:plot #35;1; #quot;#lt;b#gt;#quot;'
    """
    for letter, name in (("#", "#35;"), ("&", "#amp;"), ("<", "#lt;"), (">", "#gt;"), ('"', "#quot;")):
        text = text.replace(letter, name)
    return text
