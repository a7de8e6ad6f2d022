"""Builds: bring a stage of projects and its dependencies up to date."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from rvbuild.engine.cluster.connect import VARIABLE, require_address
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import State
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run import doit
from rvbuild.engine.run.execute import NOT_REACHED, Builder
from rvbuild.engine.run.machine import this_machine
from rvbuild.engine.run.outcome import Did, Outcome, Reporter
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.errors import ProjectError
from rvbuild.files.budget import memory_bytes
from rvbuild.project.missing import missing_files
from rvbuild.project.model import Project
from rvbuild.rules import own_rules
from rvbuild.rules.train import with_processes
from rvbuild.session import trust
from rvbuild.session.executors import jobs_default
from rvbuild.session.names import belongs
from rvbuild.session.session import Session, may_run_rules, open_session
from rvbuild.stages.names import INTERMEDIATE, on_request


@dataclass(frozen=True)
class Order:
    """A request to build a stage, with its options.

    Attributes
    ----------
    stage : str
        The stage, or `build` for all.
    scenes : tuple of str
        The scenes to build; all if empty.
    jobs : int, optional
        Number of artifacts that are built in parallel. Default: the number of cores.
    keep_going : bool
        Whether to finish all artifacts that do not depend on a failed one.
    always_make : bool
        Whether to build fresh artifacts again.
    inline : bool
        Whether to run stages in this process, one at a time.
    trust : bool
        Whether the user trusts the code of the workspace.
    checks_after : bool
        Whether files are checked after the build instead of before. For builds that take less time than the checks.
    also : tuple of str
        Stages that are built beside it.
    cluster : str
        The address of a cluster on which stages run, `local:N` for one that is started here; empty for none. Default:
        the environment variable RVBUILD_CLUSTER.
    procs : int, optional
        Number of processes of a training in shards. Default: as many as there are cores or GPUs for; on a cluster, as
        many as it has slots for.
    """

    stage: str
    scenes: tuple[str, ...] = ()
    jobs: int | None = None
    keep_going: bool = False
    always_make: bool = False
    inline: bool = False
    trust: bool = False
    checks_after: bool = False
    also: tuple[str, ...] = ()
    cluster: str = field(default_factory=lambda: os.environ.get(VARIABLE, ""))
    procs: int | None = None


@dataclass(frozen=True)
class Planned:
    """A planned build in an open session.

    Attributes
    ----------
    session : Session
    order : Order
    wanted : list of Artifact
        The requested artifacts.
    closure : list of Artifact
        The requested artifacts and all of their dependencies.
    """

    session: Session
    order: Order
    wanted: list[Artifact]
    closure: list[Artifact]

    def run(self, reporter: Reporter, ask: trust.Ask | None = None) -> list[Outcome]:
        """Build, and return the outcome of each artifact of the closure.

        Parameters
        ----------
        reporter
            Receives the events of the build.
        ask
            Asks the user whether the code of the workspace may run; None if nobody can be asked.

        Raises
        ------
        ProjectError
            All problems of the files that would be read, unless `order.keep_going` or `order.checks_after`.
        UsageError
            The code of the workspace is not allowed to run.
        """
        session, order = self.session, self.order
        if session.workspace.prints.hashed:
            session.executor.prepare()  # it imports while decisions are made
        pending = [
            a for a in self.closure if session.plan[a.name].decision.state not in (State.FRESH, State.RESTORABLE)
        ]
        trust.require(session.workspace.root, pending, order.trust, reporter.note, ask)
        jobs = session.executor.at_once() if pending or not session.executor.is_elsewhere else jobs_default()
        if pending:
            session.executor.require(pending)

        def check(keep_going: bool) -> dict[str, int]:
            if not pending:
                return {}
            from rvbuild.session.checking.findings import check_build  # imports all checks

            return check_build(session, self.closure, pending, keep_going, jobs, reporter.note)

        memory = {} if order.checks_after else check(order.keep_going)
        staying = [stage for stage in INTERMEDIATE if stage != order.stage]
        builder = Builder(session.plan, session.executor, reporter, this_machine(memory_bytes()), memory, staying)
        try:
            to_do = _edited_first(builder.to_do(a.name for a in self.wanted), session.plan)
            if not gc.isenabled():  # only the command disables it; other programs manage their own garbage
                gc.freeze()  # the plan stays alive
                gc.enable()
            doit.run(to_do, builder, jobs, order.keep_going)
        except BaseException:
            builder.interrupt()
            raise
        for artifact in self.closure:
            builder.skip(artifact.name, NOT_REACHED)
        if order.checks_after:
            check(True)
        outcomes = [builder.outcomes[a.name] for a in self.closure]
        if any(outcome.did is not Did.FRESH for outcome in outcomes):
            from rvbuild.session.checking import missing_classes

            for line in missing_classes.warnings(session, outcomes):
                reporter.note(line)
        return outcomes


@contextlib.contextmanager
def planned(
    projects: Sequence[Project],
    order: Order,
    reporter: Reporter,
    ask: trust.Ask | None = None,
    dry_run: bool = False,
    arrange: Callable[[list[Artifact], Workspace], list[Artifact]] | None = None,
    choose: Callable[[Session], list[Artifact]] | None = None,
) -> Iterator[Planned]:
    """Open a session and plan an order, with the workspace locked.

    Parameters
    ----------
    projects
        Projects of one workspace.
    order
        The request to build.
    reporter
        Receives notes.
    ask
        Asks the user whether the code of the workspace may run, where there is one to ask.
    dry_run
        Whether the plan is only inspected: the workspace's own rules then only run if the user trusts them.
    arrange
        Changes the list of all artifacts; see `open_session`.
    choose
        Returns the requested artifacts. Default: those of the order's stage and scenes.

    Raises
    ------
    ProjectError
        With all missing files.
    """

    def forced(artifacts: list[Artifact]) -> frozenset[str]:
        if not order.always_make:
            return frozenset()
        return closure_names(artifacts, order.stage, scenes_of(projects, order.scenes))

    def rules_may_run(with_rules: Sequence[Project]) -> bool:
        if dry_run:
            return may_run_rules(with_rules, order.trust)
        files = {str(path) for project in with_rules for path in own_rules.files(project)}
        trust.require_files(with_rules[0].workspace, files, order.trust, reporter.note, ask)
        return True

    def arranged(artifacts: list[Artifact], workspace: Workspace) -> list[Artifact]:
        artifacts = artifacts if arrange is None else arrange(artifacts, workspace)
        return [with_processes(a, order.procs, on_cluster) for a in artifacts]

    on_cluster = bool(order.cluster) and not order.inline
    if on_cluster and not dry_run:
        require_address(order.cluster, f"--on or {VARIABLE}")
    with (
        locked(projects[0].workspace, reporter.note),
        open_session(
            projects,
            notify=reporter.note,
            inline=order.inline,
            jobs=order.jobs,
            forced=forced,
            rules_may_run=rules_may_run,
            requested=on_request(order.stage),
            arrange=arranged,
            cluster="" if dry_run else order.cluster,
        ) as session,
    ):
        wanted = choose(session) if choose is not None else session.requested(order.stage, order.scenes)
        wanted += [a for a in session.artifacts if a.stage in order.also]
        closure = session.plan.closure(a.name for a in wanted)
        _require_files(session, closure)
        session.workspace.sweep()
        session.plan.examine(closure)
        yield Planned(session, order, wanted, closure)


def _edited_first(artifacts: Sequence[Artifact], plan: Plan) -> list[Artifact]:
    """Return artifacts in the order of projects and stages, but of each stage those of edited scenes first."""
    edited = {(a.project, a.scene) for a in artifacts if plan[a.name].decision.state is State.STALE}
    places = {stage: place for place, stage in enumerate(dict.fromkeys((a.project, a.stage) for a in artifacts))}
    return sorted(artifacts, key=lambda a: (places[a.project, a.stage], (a.project, a.scene) not in edited))


def scenes_of(projects: Sequence[Project], scenes: Collection[str]) -> frozenset[str]:
    """Return the ids of the named scenes; the name of a scene that several splits share stands for its parts."""
    return frozenset({s.id for p in projects for s in p.scenes if s.base in scenes} | set(scenes))


def closure_names(artifacts: Sequence[Artifact], stage: str, scenes: Collection[str]) -> frozenset[str]:
    """Return the names of the artifacts of `stage`, for some scenes or all, and of their dependencies."""
    by_name = {a.name: a for a in artifacts}
    pending = [a.name for a in artifacts if belongs(a.stage, stage) and (not scenes or a.scene in scenes)]
    names: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            pending += by_name[name].needs()
    return frozenset(names)


def _require_files(session: Session, closure: Sequence[Artifact]) -> None:
    problems: list[str] = []
    for project in session.projects:
        of_project = [a for a in closure if a.project == project.name]
        scenes = {a.scene for a in of_project if a.scene is not None}
        drafts = any(map(on_request, {a.stage for a in of_project}))
        problems += missing_files(project, scenes, session.workspace.prints.is_known, builds=True, drafts=drafts)
    if problems:
        raise ProjectError(problems)
