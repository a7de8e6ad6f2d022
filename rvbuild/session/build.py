"""Builds: bring a stage of projects up to date, with all that it needs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run import doit as engine
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.run.machine import this_machine
from rvbuild.engine.run.outcome import Did, Outcome, Reporter
from rvbuild.engine.store import inside
from rvbuild.engine.workspace import locked
from rvbuild.errors import ProjectError
from rvbuild.files.budget import memory_bytes
from rvbuild.project.missing import missing_files
from rvbuild.project.model import Project
from rvbuild.rules import own_rules
from rvbuild.session import trust
from rvbuild.session.checking import chipped
from rvbuild.session.checking.findings import before_build
from rvbuild.session.names import belongs
from rvbuild.session.session import Session, jobs_default, looked_at, session
from rvbuild.stages.names import on_request

DONE = (Did.BUILT, Did.RESTORED, Did.FRESH)


@dataclass(frozen=True)
class Order:
    """What is to be built, and how.

    Attributes
    ----------
    stage : str
        The stage, or `build` for all.
    scenes : tuple of str
        Only these; all if there are none.
    jobs : int, optional
        How many artifacts are built at once. Default: the number of cores.
    keep_going : bool
        After a failure, finish all that does not need it.
    always_make : bool
        Build even what is fresh.
    inline : bool
        Run stages in this process, one at a time.
    trust : bool
        The user trusts the code of the workspace.
    """

    stage: str
    scenes: tuple[str, ...] = ()
    jobs: int | None = None
    keep_going: bool = False
    always_make: bool = False
    inline: bool = False
    trust: bool = False

    def jobs_at_once(self) -> int:
        """Return how many artifacts are built at once."""
        return 1 if self.inline else self.jobs or jobs_default()


@dataclass(frozen=True)
class Planned:
    """A build that has been planned, in an open session.

    Attributes
    ----------
    now : Session
    order : Order
    wanted : list of Artifact
        What was asked for.
    closure : list of Artifact
        That, and all that it needs.
    """

    now: Session
    order: Order
    wanted: list[Artifact]
    closure: list[Artifact]

    def run(self, reporter: Reporter, ask: trust.Ask | None = None) -> list[Outcome]:
        """Build, and return what became of each artifact of the closure.

        Parameters
        ----------
        reporter
            Is told what happens.
        ask
            Asks the user whether the code of the workspace may run, where there is one to ask.

        Raises
        ------
        ProjectError
            With all that is wrong with the files that would be read, unless the order says to keep going.
        UsageError
            The code of the workspace may not run.
        """
        now, order = self.now, self.order
        if now.workspace.prints.hashed:
            now.executor.prepare()  # it imports while decisions are made
        pending = [a for a in self.closure if now.plan[a.name].decision.state not in (State.FRESH, State.RESTORABLE)]
        trust.require(now.workspace.root, pending, order.trust, reporter.note, ask)
        jobs = order.jobs_at_once()
        memory = before_build(now, self.closure, order.keep_going, jobs, reporter.note)
        builder = Builder(now.plan, now.executor, reporter, this_machine(memory_bytes()), memory)
        try:
            to_do = builder.to_do(a.name for a in self.wanted)
            if not gc.isenabled():  # the command has turned it off; another program's garbage is its own affair
                gc.freeze()  # the plan stays
                gc.enable()
            engine.run(to_do, builder, jobs, order.keep_going)
        except BaseException:
            builder.interrupt()
            raise
        for artifact in self.closure:
            builder.skip(artifact.name, "not reached: the run stopped after a failure")
        outcomes = [builder.outcomes[a.name] for a in self.closure]
        for line in chipped.doubts(now, outcomes):
            reporter.note(line)
        return outcomes


@contextlib.contextmanager
def planned(
    projects: Sequence[Project], order: Order, reporter: Reporter, ask: trust.Ask | None = None, looks: bool = False
) -> Iterator[Planned]:
    """Open a session and plan what an order asks for. The workspace is locked.

    Parameters
    ----------
    projects
        Projects of one workspace.
    order
        What is to be built.
    reporter
        Receives remarks.
    ask
        Asks the user whether the code of the workspace may run, where there is one to ask.
    looks
        The plan is only looked at: rules of the workspace's own run where the user trusts it.

    Raises
    ------
    ProjectError
        With all files that are not there.
    """

    def forced(artifacts: list[Artifact]) -> frozenset[str]:
        if not order.always_make:
            return frozenset()
        return closure_names(artifacts, order.stage, scenes_of(projects, order.scenes))

    def rules_may_run(own: Sequence[Project]) -> bool:
        if looks:
            return looked_at(own, order.trust)
        files = {str(path) for project in own for path in own_rules.files(project)}
        trust.require_files(own[0].workspace, files, order.trust, reporter.note, ask)
        return True

    with (
        locked(projects[0].workspace, reporter.note),
        session(
            projects,
            say=reporter.note,
            inline=order.inline,
            jobs=order.jobs,
            forced=forced,
            rules_may_run=rules_may_run,
            requested=on_request(order.stage),
        ) as now,
    ):
        wanted = now.wanted(order.stage, order.scenes)
        closure = now.plan.closure(a.name for a in wanted)
        _require_files(now, closure)
        now.workspace.sweep()
        now.plan.examine(closure)
        yield Planned(now, order, wanted, closure)


def scenes_of(projects: Sequence[Project], scenes: Collection[str]) -> frozenset[str]:
    """Return the ids of the scenes that are named; a scene that several splits share stands for its parts."""
    return frozenset({s.id for p in projects for s in p.scenes if s.base in scenes} | set(scenes))


def closure_names(artifacts: Sequence[Artifact], stage: str, scenes: Collection[str]) -> frozenset[str]:
    """Return the names of the artifacts of `stage`, of some scenes if any are given, and of all that they need."""
    by_name = {a.name: a for a in artifacts}
    left = [a.name for a in artifacts if belongs(a.stage, stage) and (not scenes or a.scene in scenes)]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += by_name[name].needs()
    return frozenset(found)


def _require_files(now: Session, closure: Sequence[Artifact]) -> None:
    problems: list[str] = []
    for project in now.projects:
        scenes = {a.scene for a in closure if a.project == project.name and a.scene is not None}
        drafts = any(on_request(a.stage) for a in closure if a.project == project.name)
        problems += missing_files(project, scenes, now.workspace.prints.is_known, builds=True, drafts=drafts)
    if problems:
        raise ProjectError(problems)


def write_tracebacks(now: Session, failed: Sequence[Outcome]) -> Path | None:
    """Write the tracebacks of failures to a log and return where it is; None if there are none."""
    texts = [f"{o.artifact.name}\n{o.detail}" for o in failed if o.detail]
    if not texts:
        return None
    try:
        inside.write(now.workspace.cache, "log/failures.txt", "\n".join(texts).encode("utf-8", "surrogateescape"))
    except OSError:  # the disk that the failures speak of is full
        return None
    return now.workspace.cache / "log" / "failures.txt"
