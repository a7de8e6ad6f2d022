"""Checks of projects and their files, without building anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rvbuild import rules
from rvbuild.checks import project as project_checks
from rvbuild.checks.findings import Finding, Level
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.outcome import DONE, Did, Reporter
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.project.model import Project
from rvbuild.session.checking.facts import broken, encoder_problem, facts_of, model_problem
from rvbuild.session.checking.findings import ProjectFacts, collect, findings_of
from rvbuild.session.executors import jobs_default
from rvbuild.session.session import find_sidecars, make_executor
from rvbuild.session.surveys import surveys


@dataclass(frozen=True)
class Checked:
    """The results of a check of a project.

    Attributes
    ----------
    facts : mapping
        Scene → facts about its files.
    findings : sequence of Finding
        Problems and warnings.
    """

    facts: Mapping[str, Any]
    findings: Sequence[Finding]


def check(
    projects: Sequence[Project], runs_code: bool, notify: Callable[[str], None], deep: Reporter | None = None
) -> dict[str, Checked]:
    """Check projects whose files all exist; return project → results.

    Parameters
    ----------
    projects
        Projects of one workspace.
    runs_code
        Whether user code may transform pixels.
    notify
        Receives messages about the workspace.
    deep
        If given, all pixels of imagery and labels are read, and it receives the progress.
    """
    collected, plan = _collect(projects, runs_code, notify)
    if deep is not None:
        collected = {
            project.name: collected[project.name]._replace(
                facts=_surveyed(project, collected[project.name].facts, runs_code, deep)
            )
            for project in projects
        }
    return {
        p.name: Checked(collected[p.name].facts, findings_of(p, collected[p.name], plan, jobs_default()))
        for p in projects
    }


def _collect(
    projects: Sequence[Project], runs_code: bool, notify: Callable[[str], None]
) -> tuple[dict[str, ProjectFacts], Plan]:
    """Return the facts about projects, and a plan that knows their existing artifacts."""
    workspace = Workspace(projects[0].workspace, notify)
    executor = make_executor(workspace, projects)
    try:
        find_sidecars(workspace, projects, executor)
        collected = {}
        for project in projects:
            facts = facts_of(project, workspace, executor, None, runs_code)
            problem = model_problem(project, facts, workspace, executor, None)
            encoder = encoder_problem(project, facts, workspace, executor)
            collected[project.name] = collect(project, facts, workspace, executor)._replace(
                problem=problem, encoder=encoder
            )
        # Existing predictions only matter if scores are written, which are large.
        batches = [rules.artifacts(p) if p.predict.scores else rules.chip.artifacts(p, "") for p in projects]
        plan = Plan(workspace, [a for batch in batches for a in batch], lambda requests: [None] * len(requests))
    finally:
        executor.close()
        workspace.close()
    return collected, plan


def _surveyed(project: Project, facts: Mapping[str, Any], runs_code: bool, reporter: Reporter) -> dict[str, Any]:
    """Return facts, supplemented by surveys of all scenes that could be opened."""
    unreadable = {id_ for id_, scene_facts in facts.items() if broken(scene_facts, project_checks.SAMPLED)}
    whole = replace(project, scenes=tuple(scene for scene in project.scenes if scene.id not in unreadable))
    with locked(project.workspace, reporter.note), surveys([whole], reporter, runs_code) as (session, outcomes):
        folder = session.workspace.cache / project.name / "data"
        done = {o.artifact.scene for o in outcomes if o.did in DONE and o.artifact.scene is not None}
        read = {id_: json.loads((folder / f"{id_}.json").read_text(encoding="utf-8")) for id_ in done}
        failed = {o.artifact.scene: o.message for o in outcomes if o.did is Did.FAILED}
    labels = {scene.id: scene.labels.files[0] for scene in project.scenes if scene.labels}
    surveyed = project_checks.with_surveys(facts, read, labels)
    for id_, message in failed.items():
        if id_ is not None:
            problem = [Level.ERROR.value, "", "unreadable", message, []]
            surveyed[id_] = {**surveyed[id_], "problems": [*surveyed[id_]["problems"], problem]}
    return surveyed
