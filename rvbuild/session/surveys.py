"""Surveys: statistics of the scenes of projects, from all pixels."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.run import doit
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.run.outcome import Outcome, Reporter
from rvbuild.engine.workspace import Workspace
from rvbuild.project.model import Project
from rvbuild.rules import data as rule
from rvbuild.session.executors import jobs_default
from rvbuild.session.session import Session, code_tags, open_session


@contextlib.contextmanager
def surveys(
    projects: Sequence[Project], reporter: Reporter, runs_code: bool, outlines: bool = False
) -> Iterator[tuple[Session, list[Outcome]]]:
    """Bring the surveys of projects up to date; yield the session and the outcomes. The workspace must be locked.

    Unless `runs_code`, pixels are surveyed before user code transforms them.
    """
    with open_session(
        projects, notify=reporter.note, artifacts=functools.partial(_artifacts, runs_code, outlines)
    ) as session:
        session.workspace.sweep()
        session.plan.examine(session.artifacts)
        builder = Builder(session.plan, session.executor, reporter)
        try:
            to_do = builder.to_do(a.name for a in session.artifacts)
            doit.run(to_do, builder, jobs_default(), True)
        except BaseException:
            builder.interrupt()
            raise
        for artifact in session.artifacts:
            builder.skip(artifact.name, "not reached")
        yield session, [builder.outcomes[a.name] for a in session.artifacts]


def _artifacts(runs_code: bool, outlines: bool, projects: Sequence[Project], workspace: Workspace) -> list[Artifact]:
    """Return the surveys of projects."""
    tags = {task: code_tags(task, workspace) for task in sorted({p.task for p in projects})}
    return [
        a
        for project in projects
        for a in rule.artifacts(project, tags[project.task].get("data", ""), runs_code, outlines)
    ]


def read(session: Session, project: Project) -> dict[str, Any]:
    """Return the survey of a project that `surveys` has brought up to date."""
    path = session.workspace.cache / project.name / "data" / "data.json"
    survey: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return survey
