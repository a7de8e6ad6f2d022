"""Everything that can be found wrong with projects and their files, without building anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rvbuild import rules
from rvbuild.checks import project as across
from rvbuild.checks.findings import Finding, Level
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.outcome import Did, Reporter
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.project.model import Project
from rvbuild.session.checking import facts as looking
from rvbuild.session.checking.findings import Known, findings_of, known_of
from rvbuild.session.session import find_companions, jobs_default, make_executor
from rvbuild.session.surveys import DONE, surveys


@dataclass(frozen=True)
class Checked:
    """What a check knows of a project.

    Attributes
    ----------
    facts : mapping
        Scene → what is known of its files.
    findings : sequence of Finding
        What is wrong, or looks so.
    """

    facts: Mapping[str, Any]
    findings: Sequence[Finding]


def check(
    projects: Sequence[Project], runs_code: bool, say: Callable[[str], None], deep: Reporter | None = None
) -> dict[str, Checked]:
    """Look for all that is wrong with projects whose files are all there; return project → what was found.

    Parameters
    ----------
    projects
        Projects of one workspace.
    runs_code
        Whether the user's code may transform pixels.
    say
        Receives remarks about the workspace.
    deep
        Reads every pixel of imagery and labels, too, and is told of the progress.
    """
    known, plan = _look(projects, runs_code, say)
    if deep is not None:
        known = {
            project.name: known[project.name]._replace(
                facts=_surveyed(project, known[project.name].facts, runs_code, deep)
            )
            for project in projects
        }
    return {p.name: Checked(known[p.name].facts, findings_of(p, known[p.name], plan, jobs_default())) for p in projects}


def _look(projects: Sequence[Project], runs_code: bool, say: Callable[[str], None]) -> tuple[dict[str, Known], Plan]:
    """Return what is known of projects, and a plan that tells what was made of them."""
    workspace = Workspace(projects[0].workspace, say)
    executor = make_executor(workspace, projects)
    try:
        find_companions(workspace, projects, executor)
        known = {}
        for project in projects:
            facts = looking.facts_of(project, workspace, executor, None, runs_code)
            problem = looking.model_problem(project, facts, workspace, executor, None)
            known[project.name] = known_of(project, facts, workspace, executor)._replace(problem=problem)
        # What was predicted is asked for where predictions are large.
        every = [rules.artifacts(p) if p.predict.scores else rules.chip.artifacts(p, "") for p in projects]
        plan = Plan(workspace, [a for some in every for a in some], lambda views: [None] * len(views))
    finally:
        executor.close()
        workspace.close()
    return known, plan


def _surveyed(project: Project, facts: Mapping[str, Any], runs_code: bool, reporter: Reporter) -> dict[str, Any]:
    """Return facts to which all pixels of the scenes that could be opened have been added."""
    broken = {id_ for id_, one in facts.items() if looking.broken(one, across.SAMPLED)}
    whole = replace(project, scenes=tuple(scene for scene in project.scenes if scene.id not in broken))
    with locked(project.workspace, reporter.note), surveys([whole], reporter, runs_code) as (now, outcomes):
        folder = now.workspace.cache / project.name / "data"
        done = {o.artifact.scene for o in outcomes if o.did in DONE and o.artifact.scene is not None}
        read = {id_: json.loads((folder / f"{id_}.json").read_text(encoding="utf-8")) for id_ in done}
        failed = {o.artifact.scene: o.message for o in outcomes if o.did is Did.FAILED}
    labels = {scene.id: scene.labels.files[0] for scene in project.scenes if scene.labels}
    found = across.with_surveys(facts, read, labels)
    for id_, message in failed.items():
        if id_ is not None:
            problem = [Level.ERROR.value, "", "unreadable", message, []]
            found[id_] = {**found[id_], "problems": [*found[id_]["problems"], problem]}
    return found
