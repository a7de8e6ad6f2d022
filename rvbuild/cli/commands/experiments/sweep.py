"""`rvbuild sweep`: build points of a project, and show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rvbuild.cli import report, trust_prompt
from rvbuild.cli.commands.experiments import exp
from rvbuild.cli.rows import document, print_rows, summary_line
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.failures import write_tracebacks
from rvbuild.engine.run.outcome import DONE, Did
from rvbuild.errors import UsageError, counted, nearest
from rvbuild.project.model import Project
from rvbuild.session.build import Order, Planned
from rvbuild.session.experiments import grid as grids
from rvbuild.session.experiments.build import Variants
from rvbuild.session.experiments.metrics import default_metric, require_metric
from rvbuild.session.experiments.points import Point, make, remember
from rvbuild.session.experiments.results import Row
from rvbuild.session.experiments.results import rows as results
from rvbuild.session.names import BUILDING
from rvbuild.session.projects import one_project
from rvbuild.session.status import statuses
from rvbuild.stages.names import on_request


def sweep(
    words: Sequence[str],
    grid: Sequence[str],
    count: int | None,
    seed: int,
    metric: str | None,
    lowest: bool,
    stage: str,
    jobs: int | None,
    inline: bool,
    dry_run: bool,
    trust: bool,
    as_json: bool,
    verbosity: int,
) -> int:
    """Build the points of a grid; return 1 if something failed."""
    stages = [name for name in BUILDING if not on_request(name)]
    if stage not in stages:
        raise UsageError(f"--stage {stage}: no such stage{nearest(stage, stages)} ({', '.join(stages)})")
    if not grid:
        raise UsageError("sweep: say what to try, for example --grid train.lr=1e-4,3e-4")
    axes = grids.parse(grid)
    every = grids.points(axes, count, seed)
    project = one_project(words, "sweep")
    points = make(project.path, every)
    loaded = [point.project for point in points if point.project is not None]
    metric = metric or default_metric([project, *loaded])
    require_metric(metric, [project, *loaded])
    variants = Variants(project, loaded)
    reporter = report.make(True, verbosity, as_json)
    ask = trust_prompt.asker(not as_json)
    order = Order(stage, jobs=jobs, keep_going=True, inline=inline, trust=trust)
    try:
        with variants.planned(order, reporter, ask, dry_run) as work:
            if dry_run:
                reporter.close()
                return _dry_run(work, points, variants, as_json)
            remember(work.session.workspace.cache, project.title, points)
            outcomes = work.run(reporter, ask)
            failed = [o for o in outcomes if o.did is Did.FAILED]
            log = write_tracebacks(work.session.workspace.cache, failed)
    finally:
        reporter.close()
    table = results(project, points, lambda line: echo(line, err=True))
    ids = {point.id for point in points}
    shown = [row for row in table if row.id in ids]
    if as_json:
        exp.print_table_json(shown, metric, lowest)
    elif verbosity >= 0:
        echo(f"{counted(len(points), 'point')}: {report.states(outcomes)}")
        _print_failures(shown)
        if log is not None:
            echo(f"  (details: {log.relative_to(project.workspace)})")
        exp.print_table(shown, metric, lowest)
        exp.print_next(shown, metric, lowest, _word(project))
    return 0 if all(o.did in DONE for o in outcomes) else 1


def _word(project: Project) -> str:
    path = project.path
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print_failures(rows: Sequence[Row]) -> None:
    failed = [row for row in rows if row.state == "failed"]
    if failed:
        echo("\n".join([styled("failed:", "red"), *(f"  {row.id}: {row.message}" for row in failed)]))


def _dry_run(work: Planned, points: Sequence[Point], variants: Variants, as_json: bool) -> int:
    rows = statuses(work.session, work.closure)
    if as_json:
        report.print_json({"points": [{"id": p.id, "keys": p.keys} for p in points], **document(rows)})
        return 0
    for point in points:
        echo(f"{point.id}  {', '.join(point.overrides())}")
    shown = [row for row in rows if row.state is not State.FRESH]
    print_rows(shown, True)
    echo(summary_line(rows))
    return 0
