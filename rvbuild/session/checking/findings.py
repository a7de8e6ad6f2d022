"""Findings about projects, and the checks before every build."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rvbuild.checks import packages, resources
from rvbuild.checks import project as project_checks
from rvbuild.checks.findings import Finding, Level
from rvbuild.cores import cores, thread_count
from rvbuild.engine.keys.artifact import Artifact, Resource, Source
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.workers import Executor
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import ProjectError
from rvbuild.project.model import Project
from rvbuild.session.checking.facts import completed, facts_of, model_memory, model_problem, shared_ground
from rvbuild.session.checking.messages import format_findings
from rvbuild.session.session import Session


def check_build(
    session: Session,
    closure: Sequence[Artifact],
    pending: Sequence[Artifact],
    keep_going: bool,
    jobs: int,
    notify: Callable[[str], None],
) -> dict[str, int]:
    """Check the scenes of the artifacts to be built; if nothing is to be built, nothing is opened.

    Parameters
    ----------
    session, closure
        The session, and the artifacts that the command brings up to date.
    pending
        Those of them that are built.
    jobs
        Number of artifacts that are built in parallel.
    keep_going
        Whether errors are reported instead of raised: unaffected artifacts are built.
    notify
        Receives warnings.

    Returns
    -------
    dict
        Artifact name → bytes of memory that its stage needs, for stages that use a model, if several may run in
        parallel.

    Raises
    ------
    ProjectError
        With all errors.
    """
    if pending:
        session.executor.prepare()
    errors: list[str] = []
    memory: dict[str, int] = {}
    at_once = _computing_at_once(pending, jobs)
    for project in session.projects:
        of_project = [a for a in pending if a.project == project.name]
        if not of_project:
            continue
        roles: dict[str, set[str]] = {}
        for artifact in of_project:
            if artifact.scene is not None:
                roles.setdefault(artifact.scene, set()).update(i.role for i in artifact.inputs if isinstance(i, Source))
        scenes = {a.scene for a in closure if a.project == project.name and a.scene is not None}
        stages = {a.stage for a in of_project}
        facts = facts_of(project, session.workspace, session.executor, scenes, True)
        computing = [a for a in of_project if a.resource == Resource.TORCH]
        with_model = at_once if stages & {"train", "infer"} else 0
        collected = collect(project, facts, session.workspace, session.executor, with_model)
        if "train" in stages:
            # If the remote store has the model, nothing is trained, and no weights are needed.
            trains = session.workspace.read_through is None
            problem = model_problem(project, facts, session.workspace, session.executor, notify if trains else None)
            collected = collected._replace(problem=problem)
        if at_once > 1:
            takes = resources.computing_bytes(project, facts, collected.model)
            # Encoders of drafts use torch as well: one window of pixels at a time.
            memory |= {a.name: takes.get(a.stage, resources.PROCESS_BYTES) for a in computing}
        every = findings_of(project, collected, session.plan, jobs)
        findings = [finding for finding in every if _concerns(finding, roles, stages)]
        for line in format_findings(project, of_level(findings, Level.WARNING)):
            notify(line)
        errors += format_findings(project, of_level(findings, Level.ERROR))
    if errors and not keep_going:
        raise ProjectError(errors)
    for line in errors:
        notify(line)
    return memory


def _computing_at_once(pending: Sequence[Artifact], jobs: int) -> int:
    """Return how many of the artifacts that use a model may run in parallel, limited by cores."""
    takes = sorted(
        a.demand.processes * (thread_count() if a.demand.cores is None else a.demand.cores)
        for a in pending
        if a.resource == Resource.TORCH
    )
    count = sum(total <= cores() for total in itertools.accumulate(takes))
    return max(1, min(jobs, count))


def of_level(findings: Iterable[Finding], level: Level) -> list[Finding]:
    """Return the findings of one level."""
    return [finding for finding in findings if finding.level is level]


def _concerns(finding: Finding, roles: Mapping[str, set[str]], stages: Collection[str]) -> bool:
    """Tell whether a finding concerns files that the artifacts to be built read."""
    if finding.kind == project_checks.NOT_READ:
        return False  # the stages read them
    if finding.kind in packages.KINDS:
        return packages.KINDS[finding.kind] in stages
    if finding.scene:
        return finding.scene in roles and (not finding.part or finding.part in roles[finding.scene])
    return "chip" in stages or "train" in stages


class ProjectFacts(NamedTuple):
    """Facts about a project; see `rvbuild.session.checking.facts`."""

    facts: Mapping[str, Any]
    shared: Sequence[Mapping[str, Any]]
    model: Mapping[str, int] | None
    problem: tuple[str, bool] = ("", True)
    """Why the model cannot be trained, and whether that is certain."""
    encoder: str = ""
    """Why the encoder of drafts cannot be used."""


def collect(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor, at_once: int = 1
) -> ProjectFacts:
    """Return the facts about a project; the model's memory is included unless `at_once` is 0."""
    shared = shared_ground(project, facts, workspace, executor)
    model = model_memory(project, facts, workspace, executor, at_once) if at_once else None
    return ProjectFacts(facts, shared, model)


def _model(problem: str, certain: bool) -> Finding:
    """Return a problem of the model, or of the encoder of drafts, as a finding at the key that begins the message."""
    key = re.match(r"((?:train|draft)(?:\.[a-z_]+){1,2}): ", problem)
    level = Level.ERROR if certain else Level.WARNING
    text, at = (problem[key.end() :], tuple(key[1].split("."))) if key else (problem, ("train",))
    return Finding(level, "model", text, key=at)


def findings_of(project: Project, collected: ProjectFacts, plan: Plan, jobs: int) -> list[Finding]:
    """Return all findings about a project."""
    done = {stage: completed(plan, project, stage) for stage in ("chip", "infer")}
    split = {scene.id: scene.split for scene in project.scenes}
    to_cut = [id_ for id_ in collected.facts if id_ not in done["chip"] and split[id_] != "test"]
    to_predict = [id_ for id_ in collected.facts if id_ not in done["infer"] and split[id_] != "train"]
    processes = max((a.demand.processes for a in plan.artifacts.values() if a.project == project.name), default=1)
    needs = resources.findings(project, collected.facts, to_cut, to_predict, collected.model, jobs, processes)
    problems = [collected.problem, (collected.encoder, True)]
    model = [_model(text, certain) for text, certain in problems if text]
    lacking = packages.findings(project)
    return [*project_checks.findings(project, collected.facts, collected.shared), *needs, *model, *lacking]
