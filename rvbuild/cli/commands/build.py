"""The commands that build: one for each stage, and `build` for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rvbuild import rules
from rvbuild.cli import report, trust_prompt
from rvbuild.cli.commands import suggest
from rvbuild.cli.rows import document, print_rows, summary_line
from rvbuild.cli.terminal import echo, styled
from rvbuild.cli.words import require_whole
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.failures import write_tracebacks
from rvbuild.engine.run.outcome import DONE, Did, Outcome
from rvbuild.errors import counted
from rvbuild.project.tasks import SPECS
from rvbuild.rules.predictions.layout import STAGE as STRIPS
from rvbuild.session import seals
from rvbuild.session.build import Order, Planned, planned
from rvbuild.session.headline import headline
from rvbuild.session.projects import load_all, project_paths
from rvbuild.session.session import Session
from rvbuild.session.status import statuses


@dataclass(frozen=True)
class Options:
    """The flags of a building command."""

    jobs: int | None = None
    dry_run: bool = False
    keep_going: bool = False
    always_make: bool = False
    verbosity: int = 0
    as_json: bool = False
    overrides: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    inline: bool = False
    trust: bool = False
    checks_after: bool = False
    cluster: str | None = None
    procs: int | None = None

    def order(self, stage: str) -> Order:
        """Return the order to build `stage`."""
        order = Order(
            stage,
            self.scenes,
            self.jobs,
            self.keep_going,
            self.always_make,
            inline=self.inline,
            trust=self.trust,
            checks_after=self.checks_after,
            procs=self.procs,
        )
        return order if self.cluster is None else replace(order, cluster=self.cluster)


def build(
    stage: str,
    words: Sequence[str],
    options: Options,
    normal: list[str] | None,
    after: Callable[[Session], list[str]] | None = None,
    also: tuple[str, ...] = (),
) -> int:
    """Bring `stage` of the projects in `words` up to date, and the stages `also`; return the exit status.

    After a success, `after` is called while the workspace is still locked; it returns the lines that say what there is.
    """
    require_whole(stage, "torch")
    paths = project_paths(words)
    before = {} if normal is None else seals.before_loading(paths)
    projects = load_all(paths, options.overrides)
    reporter = report.make(len(projects) > 1, options.verbosity, options.as_json)
    ask = trust_prompt.asker(not options.as_json)
    try:
        with planned(
            projects, replace(options.order(stage), also=also), reporter, ask, dry_run=options.dry_run
        ) as work:
            if options.dry_run:
                reporter.close()
                return _dry_run(work, options)
            outcomes = work.run(reporter, ask)
            lines = _last_lines(work.session, work.wanted, outcomes)
            if after is not None and all(o.did in DONE for o in outcomes):
                lines = [lines[0], *after(work.session)]
            has_own_rules = any(p.rules for p in projects)  # what they read is not known
            if (
                normal is not None
                and not has_own_rules
                and not options.always_make
                and all(o.did in DONE for o in outcomes)
            ):
                again = [_nothing(len(work.closure)), *lines[1:]]
                seals.write(work.session, normal, projects, work.closure, before, again)
    finally:
        reporter.close()
    if options.as_json:
        report.print_json(report.outcomes(outcomes), report.one_a_line)
    elif options.verbosity >= 0:
        echo("\n".join(lines))
    return 0 if all(o.did in DONE for o in outcomes) else 1


def _dry_run(work: Planned, options: Options) -> int:
    rows = statuses(work.session, work.closure)
    if options.as_json:
        report.print_json(document(rows), report.one_a_line)
    else:
        shown = [row for row in rows if row.state is not State.FRESH or options.verbosity > 0]
        print_rows(shown, len(work.session.projects) > 1)
        echo(summary_line(rows))
    return 0


def _last_lines(session: Session, wanted: Sequence[Artifact], outcomes: Sequence[Outcome]) -> list[str]:
    failed = [o for o in outcomes if o.did is Did.FAILED]
    fresh = all(o.did is Did.FRESH for o in outcomes)
    lines = [_nothing(len(outcomes)) if fresh else report.states(outcomes)]
    if failed:
        lines += [styled("failed:", "red"), *(f"  {o.artifact.label()}: {o.message}" for o in failed)]
        log = write_tracebacks(session.workspace.cache, failed)  # they are never printed
        lines += [f"  (details: {session.workspace.show(log)})"] if log is not None else []
    names = {a.name for a in wanted}
    shown = [path for o in outcomes if o.artifact.name in names for path in o.outputs]
    lines += [*_headlines(session, shown), *suggest.lines(session.workspace.root, session.projects, shown)]
    whole = [path for path in shown if path.split("/")[2:3] != [STRIPS]]  # cache/PROJECT/STAGE/…
    return lines + report.where(session.workspace.root, whole, rules.SHOWN)


def _headlines(session: Session, outputs: Sequence[str]) -> list[str]:
    """Return the main metric of each project whose evaluation is among the outputs, or why its draft has none."""
    lines = []
    for project in session.projects:
        spec = SPECS[project.task]
        if not spec.drafted and any(path.startswith(f"cache/{project.name}/draft/") for path in outputs):
            why = f"a draft of {spec.about} is a map of where objects are; it is not evaluated"
            lines.append(f"  {project.name}: {why}" if len(session.projects) > 1 else f"  {why}")
        for folder in ("eval", "draft"):
            path = f"cache/{project.name}/{folder}/eval.json"
            text = headline(project, session.workspace.root / path) if path in outputs else None
            if text is not None:
                lines.append(f"  {project.name}: {text}" if len(session.projects) > 1 else f"  {text}")
    return lines


def _nothing(count: int) -> str:
    return f"nothing to do ({counted(count, 'artifact')} up to date)"
