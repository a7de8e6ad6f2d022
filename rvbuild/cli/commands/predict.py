"""The command `predict` for a bundle: images, folders, patterns, items and lists."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rvbuild.cli import report
from rvbuild.cli.rows import document, print_rows, summary_line
from rvbuild.cli.terminal import echo, styled
from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.failures import write_tracebacks
from rvbuild.engine.run.outcome import DONE, Did, Outcome
from rvbuild.errors import UsageError, counted
from rvbuild.process import variables
from rvbuild.session.predicting.predict import Order, Prepared, prepared
from rvbuild.stages.bundle.hub.folder import as_bundle
from rvbuild.stages.names import AnyTestTime, Engine

if TYPE_CHECKING:
    from rvbuild.session.predicting.plan import Planned

_SHOWN = 4
"""Maximum number of results that are listed at the end."""


def predict_bundle(
    words: Sequence[str],
    into: Path | None,
    *,
    engine: Engine = "auto",
    tta: AnyTestTime | None = None,
    assets: Sequence[str] = (),
    jobs: int | None = None,
    dry_run: bool = False,
    always_make: bool = False,
    allow_code: bool = False,
    inline: bool = False,
    as_json: bool = False,
    verbosity: int = 0,
) -> int:
    """Predict with a bundle: `words` are the bundle and what to predict; return the exit status.

    The bundle may be a directory with the members of one.
    """
    gc.enable()  # a stage may run in this process; see `main`
    bundle = Path(words[0])
    if len(words) == 1:
        raise UsageError(
            f"predict {bundle}: nothing to predict; use `rvbuild predict {quote(str(bundle))} INPUT… -o DIR` with "
            "images, folders, patterns, STAC items or lists"
        )
    if into is None:
        raise UsageError(f"predict {bundle}: set the directory for the predictions with -o DIR")
    how = (engine, tta, tuple(assets), jobs or 1, always_make, allow_code, inline)
    with as_bundle(bundle) as packed:
        return _predict(Order(packed, bundle, tuple(words[1:]), into, *how), dry_run, as_json, verbosity)


def _predict(order: Order, dry_run: bool, as_json: bool, verbosity: int) -> int:
    reporter = report.make(False, verbosity, as_json)
    try:
        for line in variables.problems(os.environ):
            reporter.note(line)
        with prepared(order, reporter, dry_run=dry_run) as work:
            if dry_run:
                reporter.close()
                return _dry_run(work, verbosity, as_json)
            outcomes = work.run(reporter.task(f"predict {order.named.name}"))
            lines = _last_lines(work, order.into, outcomes)
    finally:
        reporter.close()
    if as_json:
        report.print_json(report.outcomes(outcomes), report.one_a_line)
    elif verbosity >= 0:
        echo("\n".join(lines))
    return 0 if all(outcome.did in DONE for outcome in outcomes) else 1


def _dry_run(work: Prepared, verbosity: int, as_json: bool) -> int:
    rows = [_row(planned) for planned in work.planned]
    if as_json:
        report.print_json(document(rows), report.one_a_line)
    else:
        print_rows([row for row in rows if row.state is not State.FRESH or verbosity > 0], False)
        echo(summary_line(rows))
    return 0


def _row(planned: Planned) -> ArtifactStatus:
    artifact, record = planned.artifact, planned.facts.record
    return ArtifactStatus(
        artifact.project,
        artifact.stage,
        artifact.scene,
        planned.decision.state,
        tuple(map(str, planned.decision.reasons)),
        tuple(output.path for output in record.outputs.values()) if record else (),
        planned.facts.key,
        round(record.seconds, 3) if record else None,
    )


def _last_lines(work: Prepared, into: Path, outcomes: Sequence[Outcome]) -> list[str]:
    failed = [outcome for outcome in outcomes if outcome.did is Did.FAILED]
    lines = [report.states(outcomes)]
    if all(outcome.did is Did.FRESH for outcome in outcomes):
        lines = [f"nothing to do ({counted(len(outcomes), 'image')} up to date)"]
    if failed:
        lines += [styled("failed:", "red"), *(f"  {o.artifact.scene}: {o.message}" for o in failed)]
        log = write_tracebacks(work.folder.own, failed)  # they are never printed
        lines += [f"  (details: {report.from_here(log)})"] if log is not None else []
    there = [f"  {into / str(o.artifact.scene)}" for o in outcomes if o.did in DONE]
    more = len(there) - _SHOWN
    return lines + (there if more <= 1 else [*there[:_SHOWN], f"  … and {more} more in {into}"])
