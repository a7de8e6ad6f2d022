"""Surveys: what the scenes of projects hold, all pixels counted."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.run import doit as engine
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.run.outcome import Did, Outcome, Reporter
from rvbuild.engine.workspace import Workspace
from rvbuild.project.model import Project
from rvbuild.rules import data as rule
from rvbuild.session.session import Session, code_tags, jobs_default, session

DONE = (Did.BUILT, Did.RESTORED, Did.FRESH)


@contextlib.contextmanager
def surveys(
    projects: Sequence[Project], reporter: Reporter, runs_code: bool
) -> Iterator[tuple[Session, list[Outcome]]]:
    """Bring the surveys of projects up to date; give the session and what became of each. The workspace is locked.

    Unless `runs_code`, pixels are surveyed as they are before code of the user's transforms them.
    """
    with session(projects, say=reporter.note, artifacts=functools.partial(_artifacts, runs_code)) as now:
        now.workspace.sweep()
        now.plan.examine(now.artifacts)
        builder = Builder(now.plan, now.executor, reporter)
        try:
            to_do = builder.to_do(a.name for a in now.artifacts)
            engine.run(to_do, builder, jobs_default(), True)
        except BaseException:
            builder.interrupt()
            raise
        for artifact in now.artifacts:
            builder.skip(artifact.name, "not reached")
        yield now, [builder.outcomes[a.name] for a in now.artifacts]


def _artifacts(runs_code: bool, projects: Sequence[Project], workspace: Workspace) -> list[Artifact]:
    """Return the surveys of projects."""
    tags = {task: code_tags(task, workspace) for task in sorted({p.task for p in projects})}
    return [a for project in projects for a in rule.artifacts(project, tags[project.task].get("data", ""), runs_code)]


def read(now: Session, project: Project) -> dict[str, Any]:
    """Return the survey of a project that `surveys` has brought up to date."""
    path = now.workspace.cache / project.name / "data" / "data.json"
    survey: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return survey
