"""What is wrong with projects, as findings; and what every build looks at before it begins."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rvbuild.checks import project as across
from rvbuild.checks import resources
from rvbuild.checks.findings import Finding, Level
from rvbuild.cores import cores, thread_count
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.plan.decide import State
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.workers import Executor
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import ProjectError
from rvbuild.project.model import Project
from rvbuild.session.checking import facts as looking
from rvbuild.session.checking.told import tell
from rvbuild.session.session import Session

_DONE = (State.FRESH, State.RESTORABLE)


def before_build(
    now: Session, closure: Sequence[Artifact], keep_going: bool, jobs: int, say: Callable[[str], None]
) -> dict[str, int]:
    """Look at the scenes that artifacts are going to be made of; nothing is opened if none is.

    Parameters
    ----------
    now, closure
        The session, and the artifacts that the command brings up to date.
    jobs
        How many artifacts are built at once.
    keep_going
        Errors are said and not raised: what they do not concern is built.
    say
        Receives warnings.

    Returns
    -------
    dict
        Artifact name → the bytes of memory that its stage takes, for those that compute on a model, if some may run
        side by side.

    Raises
    ------
    ProjectError
        With all errors.
    """
    pending = [a for a in closure if now.plan[a.name].decision.state not in _DONE]
    if pending:
        now.executor.prepare()
    errors: list[str] = []
    memory: dict[str, int] = {}
    at_once = _computing_at_once(pending, jobs)
    for project in now.projects:
        of_project = [a for a in pending if a.project == project.name]
        if not of_project:
            continue
        roles: dict[str, set[str]] = {}
        for artifact in of_project:
            if artifact.scene is not None:
                roles.setdefault(artifact.scene, set()).update(i.role for i in artifact.inputs if isinstance(i, Source))
        scenes = {a.scene for a in closure if a.project == project.name and a.scene is not None}
        stages = {a.stage for a in of_project}
        facts = looking.facts_of(project, now.workspace, now.executor, scenes, True)
        computing = [a for a in of_project if a.resource == "torch"]
        known = known_of(project, facts, now.workspace, now.executor, at_once if computing else 0)
        if "train" in stages:
            # The store elsewhere may have the model: then nothing is trained, and no weights are needed.
            trains = now.workspace.read_through is None
            problem = looking.model_problem(project, facts, now.workspace, now.executor, say if trains else None)
            known = known._replace(problem=problem)
        if at_once > 1:
            takes = resources.computing_bytes(project, facts, known.model)
            memory |= {a.name: takes[a.stage] for a in computing}
        every = findings_of(project, known, now.plan, jobs)
        findings = [finding for finding in every if _concerns(finding, roles, stages)]
        for line in tell(project, of_level(findings, Level.WARNING)):
            say(line)
        errors += tell(project, of_level(findings, Level.ERROR))
    if errors and not keep_going:
        raise ProjectError(errors)
    for line in errors:
        say(line)
    return memory


def _computing_at_once(pending: Sequence[Artifact], jobs: int) -> int:
    """Return how many of the artifacts that compute on a model may run side by side, as far as cores go."""
    takes = sorted(
        thread_count() if a.demand.cores is None else a.demand.cores for a in pending if a.resource == "torch"
    )
    count = sum(total <= cores() for total in itertools.accumulate(takes))
    return max(1, min(jobs, count))


def of_level(findings: Iterable[Finding], level: Level) -> list[Finding]:
    """Return the findings of one level."""
    return [finding for finding in findings if finding.level is level]


def _concerns(finding: Finding, roles: Mapping[str, set[str]], stages: Collection[str]) -> bool:
    """Tell whether a finding is about something that the artifacts to be built read."""
    if finding.kind == across.NOT_READ:
        return False  # the stages are going to read them
    if finding.scene:
        return finding.scene in roles and (not finding.part or finding.part in roles[finding.scene])
    return "chip" in stages or "train" in stages


class Known(NamedTuple):
    """What is known of a project: see `looking`."""

    facts: Mapping[str, Any]
    shared: Sequence[Mapping[str, Any]]
    model: Mapping[str, int] | None
    problem: tuple[str, bool] = ("", True)
    """Why the model cannot be trained, and whether that is certain."""


def known_of(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor, at_once: int = 1
) -> Known:
    """Return what is known of a project; of the model's memory, if so many compute at once."""
    shared = looking.shared_ground(project, facts, workspace, executor)
    model = looking.model_memory(project, facts, workspace, executor, at_once) if at_once else None
    return Known(facts, shared, model)


def _model(problem: str, certain: bool) -> Finding:
    """Return what is wrong with the model, at the key that the message begins with."""
    key = re.match(r"train\.([a-z_]+)(?:\.[a-z_]+)?: ", problem)
    level = Level.ERROR if certain else Level.WARNING
    text, at = (problem[key.end() :], ("train", key[1])) if key else (problem, ("train",))
    return Finding(level, "model", text, key=at)


def findings_of(project: Project, known: Known, plan: Plan, jobs: int) -> list[Finding]:
    """Return all findings about a project."""
    done = {stage: looking.made(plan, project, stage) for stage in ("chip", "infer")}
    split = {scene.id: scene.split for scene in project.scenes}
    to_cut = [id_ for id_ in known.facts if id_ not in done["chip"] and split[id_] != "test"]
    to_predict = [id_ for id_ in known.facts if id_ not in done["infer"] and split[id_] != "train"]
    needs = resources.findings(project, known.facts, to_cut, to_predict, known.model, jobs)
    model = [_model(*known.problem)] if known.problem[0] else []
    return [*across.findings(project, known.facts, known.shared), *needs, *model]
