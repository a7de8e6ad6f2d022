"""A session of a command: loaded projects, the open workspace, all artifacts, and their plan."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rvbuild import rules
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.plan import Appeared, Plan
from rvbuild.engine.run.questions import digest_runner, files_asker, sizes_asker
from rvbuild.engine.run.workers import Executor
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import UsageError, nearest
from rvbuild.process import variables
from rvbuild.project.model import Project
from rvbuild.project.tables.own_rules import stage_of
from rvbuild.rules import lock, own_rules
from rvbuild.rules.common import name
from rvbuild.rules.protocol import HasCode
from rvbuild.session import trust as workspace_trust
from rvbuild.session.executors import cluster_executor, new_executor
from rvbuild.session.names import belongs, stages_of
from rvbuild.session.process_context import environment_of
from rvbuild.stages.names import ON_REQUEST, SHARED, on_request


@dataclass
class Session:
    """Projects of one workspace, their artifacts, and a plan."""

    workspace: Workspace
    projects: list[Project]
    artifacts: list[Artifact]
    executor: Executor
    plan: Plan

    def matching(self, word: str) -> list[Artifact]:
        """Return the artifacts of all projects that `STAGE` or `STAGE:SCENE` names.

        Raises
        ------
        UsageError
            There is none.
        """
        stage, colon, scene = word.partition(":")
        ids = self._ids(scene)
        artifacts = [a for a in self.artifacts if a.stage == stage and (not colon or a.scene in ids)]
        if not colon:  # the merged artifact stands for its scenes
            artifacts = [a for a in artifacts if a.scene is None] or artifacts
        if not artifacts:
            stages = sorted({a.stage for a in self.artifacts})
            if stage not in stages:
                raise UsageError(f"{word}: no stage {stage!r}{nearest(stage, stages)} (stages: {', '.join(stages)})")
            scenes = sorted({a.scene for a in self.artifacts if a.stage == stage and a.scene is not None})
            if not scenes:
                raise UsageError(f"{word}: {stage} is one artifact for all scenes; use {stage!r}")
            raise UsageError(f"{word}: {stage} has no scene {scene!r}{nearest(scene, scenes)} ({', '.join(scenes)})")
        return artifacts

    def requested(self, stage: str, scenes: Sequence[str]) -> list[Artifact]:
        """Return the artifacts that a command requests: a stage, or all for `build`; only of `scenes` if given."""
        stages = {each for each in {a.stage for a in self.artifacts} if belongs(each, stage)}
        artifacts = [a for a in self.artifacts if a.stage in stages]
        if not stages.isdisjoint(SHARED):
            needed = {name for a in artifacts for name in a.needs()}
            artifacts = [a for a in artifacts if a.stage not in SHARED or a.name in needed]
        if not artifacts and on_request(stage):
            path = self.workspace.show(str(self.projects[0].path))
            raise UsageError(
                f"{path}: {stage} learns from the labels of training scenes, and there are none; name some in "
                "scenes.train"
            )
        if scenes:
            available = sorted({a.scene for a in artifacts if a.scene is not None})
            requested_ids: set[str] = set()
            for scene in scenes:
                ids = self._ids(scene) & set(available)
                if not ids:
                    listing = ", ".join(available) or "no scenes"
                    raise UsageError(
                        f"--scene {scene}: {stage} has no such scene{nearest(scene, available)} ({listing})"
                    )
                requested_ids |= ids
            artifacts = [a for a in artifacts if a.scene in requested_ids]
        return artifacts

    def _ids(self, scene: str) -> set[str]:
        """Return the id of a scene, and the ids of its parts if several splits share it."""
        return {scene, *(s.id for p in self.projects for s in p.scenes if s.base == scene)}


def make_executor(
    workspace: Workspace,
    projects: Sequence[Project],
    inline: bool = False,
    jobs: int | None = None,
    cluster: str = "",
    notify: Callable[[str], None] = lambda line: None,
) -> Executor:
    """Return the executor of the stages of projects, with `jobs` parallel jobs, by default one for each core.

    With `cluster`, the address of one, jobs run there.
    """
    environment = environment_of(workspace.root, projects)
    if cluster and not inline:
        return cluster_executor(cluster, environment, workspace, rules.PRELOAD, jobs, notify)
    return new_executor(environment, workspace.cache / "log", rules.PRELOAD, jobs, inline=inline)


def find_sidecars(workspace: Workspace, projects: Sequence[Project], executor: Executor) -> Appeared:
    """Find the sidecars of the files of projects for their rules; return a function that reports new ones later."""
    return rules.prepare(projects, files_asker(executor), sizes_asker(executor), workspace.state, workspace.root)


@contextlib.contextmanager
def open_session(
    projects: Sequence[Project],
    *,
    notify: Callable[[str], None],
    inline: bool = False,
    jobs: int | None = None,
    forced: Callable[[list[Artifact]], frozenset[str]] | None = None,
    artifacts: Callable[[Sequence[Project], Workspace], list[Artifact]] | None = None,
    rules_may_run: Callable[[Sequence[Project]], bool] | None = None,
    requested: bool = False,
    arrange: Callable[[list[Artifact], Workspace], list[Artifact]] | None = None,
    cluster: str = "",
) -> Iterator[Session]:
    """Open the workspace of `projects` and plan the artifacts that `artifacts` returns; by default all.

    Stages that are not part of `build` are planned if they are `requested`, or were built before.
    `rules_may_run` decides whether the workspace's own rules may run; by default if the user trusts them. `arrange`
    changes the list of all artifacts, for example so that variants of a project share some. `cluster` is the address of
    a cluster that runs jobs.
    """
    workspace = Workspace(projects[0].workspace, notify)
    executor: Executor | None = None
    try:
        for line in variables.problems(os.environ):
            notify(line)
        executor = make_executor(workspace, projects, inline, jobs, cluster, notify)
        appeared = find_sidecars(workspace, projects, executor)
        if artifacts is None:
            every = all_artifacts(projects, workspace, _own_rules(projects, rules_may_run, notify), requested)
            every = arrange(every, workspace) if arrange is not None else every
        else:
            every = artifacts(projects, workspace)
        plan = Plan(workspace, every, digest_runner(executor), forced(every) if forced else frozenset(), appeared)
        yield Session(workspace, list(projects), every, executor, plan)
    finally:
        if executor is not None:
            executor.close()
        workspace.close()


def _own_rules(
    projects: Sequence[Project], may_run: Callable[[Sequence[Project]], bool] | None, notify: Callable[[str], None]
) -> bool:
    """Tell whether the workspace's own rules run; report it if they do not."""
    with_rules = [project for project in projects if project.rules]
    if not with_rules or (may_run or may_run_rules)(with_rules):
        return True
    for project in with_rules:
        stages = ", ".join(map(stage_of, project.rules))
        notify(
            f"{project.where(('project', 'rules'))}: left out: {stages}. Rules of a workspace are code. They run "
            "when you build, and here only after you trust them: add --trust"
        )
    return False


def may_run_rules(projects: Sequence[Project], trust: bool = False) -> bool:
    """Tell whether a command that builds nothing may run the workspace's own rules."""
    return workspace_trust.may_inspect(projects[0].workspace, trust)


def all_artifacts(
    projects: Sequence[Project], workspace: Workspace, with_own_rules: bool = False, requested: bool = False
) -> list[Artifact]:
    """Return the artifacts of all `projects`; `with_own_rules` runs their own rules and includes their artifacts.

    Artifacts of stages that are not part of `build` are included if they are `requested`, or if their command has
    made something.
    """
    artifacts: list[Artifact] = []
    tags = {task: code_tags(task, workspace) for task in sorted({p.task for p in projects})}
    for project in projects:
        commands = [
            command
            for command in ON_REQUEST
            if requested or any(workspace.state.record(name(stage, project.name)) for stage in stages_of(command))
        ]
        ours = rules.artifacts(project, tags[project.task], commands)
        artifacts += own_rules.artifacts(project, ours) if with_own_rules and project.rules else ours
    return artifacts


def code_tags(task: str, workspace: Workspace) -> dict[str, str]:
    """Return stage -> digest of its code, for stages whose code differs from the release."""
    return lock.code_tags(task, workspace.state)


def code_of(rule: HasCode, project: Project, workspace: Workspace) -> str:
    """Return the digest of the code of a rule that is not locked."""
    return lock.code_of(rule, project.task, workspace.state)
