"""`rvbuild folds`: train all folds of a project, and report them together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rvbuild.cli import report, trust_prompt
from rvbuild.cli.rows import document, print_rows, summary_line
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.failures import write_tracebacks
from rvbuild.engine.run.outcome import DONE, Did
from rvbuild.errors import counted
from rvbuild.project.tasks import SPECS
from rvbuild.session import seals
from rvbuild.session.build import Order, Planned
from rvbuild.session.experiments.folds import FoldGraph, Folds, make
from rvbuild.session.experiments.metrics import figures
from rvbuild.session.projects import one_project
from rvbuild.session.status import statuses


def folds(
    words: Sequence[str],
    count: int | None,
    by: Literal["block", "scene"] | None,
    soup: bool,
    jobs: int | None,
    inline: bool,
    dry_run: bool,
    trust: bool,
    as_json: bool,
    verbosity: int,
) -> int:
    """Build all folds; return 1 if something failed."""
    project = one_project(words, "folds")
    made = make(project, count, by, soup=soup)
    graph = FoldGraph(made)
    reporter = report.make(True, verbosity, as_json)
    ask = trust_prompt.asker(not as_json)
    order = Order("eval", jobs=jobs, keep_going=True, inline=inline, trust=trust)
    try:
        with graph.planned(order, reporter, ask, dry_run) as work:
            if dry_run:
                reporter.close()
                return _dry_run(work, as_json)
            outcomes = work.run(reporter, ask)
            failed = [o for o in outcomes if o.did is Did.FAILED]
            log = write_tracebacks(work.session.workspace.cache, failed)
            seals.remove_all(work.session.workspace.cache)  # a review reads the maps that there are
    finally:
        reporter.close()
    done = all(o.did in DONE for o in outcomes)
    folder = project.workspace / "cache" / project.title / "folds"
    if as_json:
        document = json.loads((folder / "folds.json").read_bytes()) if done else {}
        report.print_json({**document, "by": made.by, "soup": _of_soup(made) if done else None})
    elif verbosity >= 0:
        echo(f"{counted(len(made.variants), 'fold')} by {made.by}: {report.states(outcomes)}")
        if failed:
            echo("\n".join([styled("failed:", "red"), *(f"  {_label(o.artifact)}: {o.message}" for o in failed)]))
        if log is not None:
            echo(f"  (details: {log.relative_to(project.workspace)})")
        if done:
            _print(json.loads((folder / "folds.json").read_bytes()), made, folder)
    return 0 if done else 1


def _label(artifact: Any) -> str:
    return f"{artifact.project} {artifact.label()}"


def _print(summary: Mapping[str, Any], made: Folds, folder: Path) -> None:
    main = SPECS[made.project.task].metrics[0]
    rows = [(name, item) for name, item in summary["overall"].items() if name == main]
    for class_name, metrics in summary["classes"].items():
        rows += [(f"{class_name} {name}", item) for name, item in metrics.items() if name in ("iou", "f1", "ap50")]
    width = max((len(name) for name, _ in rows), default=0)
    for name, item in rows:
        deviation = "" if item["std"] is None else f" ± {item['std']:.4f}"
        values = ", ".join("-" if value is None else f"{value:.4f}" for value in item["values"])
        echo(f"  {name:{width}}  {item['mean']:.4f}{deviation}  ({values})")
    root = made.project.workspace
    echo(f"  {(folder / 'folds.md').relative_to(root)}")
    for path in sorted((folder / "maps").glob("*"))[:20]:
        echo(f"  {path.relative_to(root)}/")
    if made.soup is not None:
        echo(f"  cache/{made.soup.name}/bundle/{made.soup.title}.zip")
        metrics = _of_soup(made)
        if metrics is None:
            echo("  the mean of the weights is not evaluated: no scene of scenes.test, which no fold has, is labelled")
        else:
            echo(f"  test.{main} of the mean of the weights: {metrics.get(f'test.{main}', float('nan')):.4f}")


def _of_soup(made: Folds) -> dict[str, float] | None:
    """Return the metrics of the mean of weights, of test scenes; None if there are none with labels."""
    if made.soup is None or not made.tested():
        return None
    path = made.project.workspace / "cache" / made.soup.name / "eval/eval.json"
    return figures(json.loads(path.read_bytes()), made.soup)


def _dry_run(work: Planned, as_json: bool) -> int:
    rows = statuses(work.session, work.closure)
    if as_json:
        report.print_json(document(rows), report.one_a_line)
        return 0
    print_rows([row for row in rows if row.state is not State.FRESH], True)
    echo(summary_line(rows))
    return 0
