"""What a command works on: projects loaded, rules applied, the workspace opened, a plan to ask."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvbuild import rules
from rvbuild.cores import cores
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.plan import Appeared, Plan
from rvbuild.engine.run.questions import digest_runner, files_asker
from rvbuild.engine.run.workers import Executor, Inline, Pool
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import UsageError, nearest
from rvbuild.process import variables
from rvbuild.project.model import Project
from rvbuild.project.tables.own_rules import stage_of
from rvbuild.rules import lock, own_rules
from rvbuild.rules.common import name
from rvbuild.rules.protocol import HasCode
from rvbuild.session import trust as trusting
from rvbuild.session.names import belongs
from rvbuild.stages.names import on_request


@dataclass
class Session:
    """Projects of one workspace, their artifacts, and a plan."""

    workspace: Workspace
    projects: list[Project]
    artifacts: list[Artifact]
    executor: Executor
    plan: Plan

    def named(self, word: str) -> list[Artifact]:
        """Return the artifacts that `STAGE` or `STAGE:SCENE` names, in all projects.

        Raises
        ------
        UsageError
            If there is none.
        """
        stage, colon, scene = word.partition(":")
        ids = self._ids(scene)
        found = [a for a in self.artifacts if a.stage == stage and (not colon or a.scene in ids)]
        if not colon:  # the merged artifact speaks for its scenes
            found = [a for a in found if a.scene is None] or found
        if not found:
            stages = sorted({a.stage for a in self.artifacts})
            if stage not in stages:
                raise UsageError(f"{word}: no stage {stage!r}{nearest(stage, stages)} (stages: {', '.join(stages)})")
            scenes = sorted({a.scene for a in self.artifacts if a.stage == stage and a.scene is not None})
            if not scenes:
                raise UsageError(f"{word}: {stage} is one artifact for all scenes; use {stage!r}")
            raise UsageError(f"{word}: {stage} has no scene {scene!r}{nearest(scene, scenes)} ({', '.join(scenes)})")
        return found

    def wanted(self, stage: str, scenes: Sequence[str]) -> list[Artifact]:
        """Return what a building command asks for: a stage, or all for `build`, of some scenes if any are given."""
        found = [a for a in self.artifacts if belongs(a.stage, stage)]
        if not found and on_request(stage):
            path = self.workspace.show(str(self.projects[0].path))
            raise UsageError(
                f"{path}: {stage} learns from the labels of training scenes, and there are none; name some in "
                "scenes.train"
            )
        if scenes:
            known = sorted({a.scene for a in found if a.scene is not None})
            asked: set[str] = set()
            for scene in scenes:
                ids = self._ids(scene) & set(known)
                if not ids:
                    have = ", ".join(known) or "no scenes"
                    raise UsageError(f"--scene {scene}: {stage} has no such scene{nearest(scene, known)} ({have})")
                asked |= ids
            found = [a for a in found if a.scene in asked]
        return found

    def _ids(self, scene: str) -> set[str]:
        """Return the id of a scene, and those of its parts if several splits share it."""
        return {scene, *(s.id for p in self.projects for s in p.scenes if s.base == scene)}


def environment_of(root: Path, projects: Sequence[Project]) -> dict[str, str | None]:
    """Return the environment variables that stages of projects run with; None for those that they do not have."""
    return {**variables.for_workers(os.environ), **rules.places(root, projects)}


def new_executor(
    environment: Mapping[str, str | None],
    logs: Path,
    preload: Sequence[str] = (),
    jobs: int | None = None,
    *,
    inline: bool = False,
) -> Executor:
    """Return where jobs run: in this process one at a time, or in workers, by default one for each core.

    Parameters
    ----------
    environment
        Variables of the workers; None removes one.
    logs
        The directory for what workers print.
    preload
        Modules that workers import before their first job.
    jobs
        How many run at once.
    inline
        Whether they run in this process.
    """
    return Inline(environment) if inline else Pool(environment, logs, preload, jobs or jobs_default())


def make_executor(
    workspace: Workspace, projects: Sequence[Project], inline: bool = False, jobs: int | None = None
) -> Executor:
    """Return where the stages of projects run, and so many jobs at once, by default one for each core."""
    environment = environment_of(workspace.root, projects)
    return new_executor(environment, workspace.cache / "log", rules.PRELOAD, jobs, inline=inline)


def find_companions(workspace: Workspace, projects: Sequence[Project], executor: Executor) -> Appeared:
    """Find out what belongs to the files of projects, on which their rules rely; return what tells of others later."""
    return rules.prepare(projects, files_asker(executor), workspace.state, workspace.root)


@contextlib.contextmanager
def session(
    projects: Sequence[Project],
    *,
    say: Callable[[str], None],
    inline: bool = False,
    jobs: int | None = None,
    forced: Callable[[list[Artifact]], frozenset[str]] | None = None,
    artifacts: Callable[[Sequence[Project], Workspace], list[Artifact]] | None = None,
    rules_may_run: Callable[[Sequence[Project]], bool] | None = None,
    requested: bool = False,
) -> Iterator[Session]:
    """Open the workspace of `projects` and plan what `artifacts` returns; by default all that they build.

    Stages that are no part of `build` are planned where they are `requested`, or have been built before.
    `rules_may_run` is asked whether rules of the workspace's own may run; by default where the user trusts it.
    """
    workspace = Workspace(projects[0].workspace, say)
    executor: Executor | None = None
    try:
        for line in variables.problems(os.environ):
            say(line)
        executor = make_executor(workspace, projects, inline, jobs)
        appeared = find_companions(workspace, projects, executor)
        if artifacts is None:
            every = all_artifacts(projects, workspace, _own_rules(projects, rules_may_run, say), requested)
        else:
            every = artifacts(projects, workspace)
        plan = Plan(workspace, every, digest_runner(executor), forced(every) if forced else frozenset(), appeared)
        yield Session(workspace, list(projects), every, executor, plan)
    finally:
        if executor is not None:
            executor.close()
        workspace.close()


def _own_rules(
    projects: Sequence[Project], may_run: Callable[[Sequence[Project]], bool] | None, say: Callable[[str], None]
) -> bool:
    """Tell whether the rules of a workspace's own run, and say so if they do not."""
    own = [project for project in projects if project.rules]
    if not own or (may_run or looked_at)(own):
        return True
    for project in own:
        stages = ", ".join(map(stage_of, project.rules))
        say(
            f"{project.where(('project', 'rules'))}: left out: {stages}. Rules of a workspace are code. They run "
            "when you build, and here only after you trust them: add --trust"
        )
    return False


def looked_at(projects: Sequence[Project], trust: bool = False) -> bool:
    """Tell whether a command that only looks may run the rules of a workspace's own."""
    return trusting.may_look(projects[0].workspace, trust)


def all_artifacts(
    projects: Sequence[Project], workspace: Workspace, own: bool = False, requested: bool = False
) -> list[Artifact]:
    """Return the artifacts of all `projects`; those of rules of their own only with `own`, which runs these.

    Those that are no part of `build` are included if they are `requested`, or if a draft has been built before.
    """
    found: list[Artifact] = []
    tags = {task: code_tags(task, workspace) for task in sorted({p.task for p in projects})}
    for project in projects:
        drafted = requested or workspace.state.record(name("head", project.name)) is not None
        ours = rules.artifacts(project, tags[project.task], drafted)
        found += own_rules.artifacts(project, ours) if own and project.rules else ours
    return found


def code_tags(task: str, workspace: Workspace) -> dict[str, str]:
    """Return stage -> digest of its code, for stages whose code differs from the released one."""
    return lock.code_tags(task, workspace.state)


def code_of(rule: HasCode, project: Project, workspace: Workspace) -> str:
    """Return the digest of the code of a rule that is not locked."""
    return lock.code_of(rule, project.task, workspace.state)


def jobs_default() -> int:
    """Return how many artifacts are built at once if `-j` does not say."""
    return cores()
