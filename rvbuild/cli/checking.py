"""Checks before work: the command `check`, and what every build looks at before it begins."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import click

from rvbuild.build.artifact import Artifact, Source, digest
from rvbuild.build.decide import State
from rvbuild.build.execute import Did
from rvbuild.build.plan import Plan
from rvbuild.build.worker import Job
from rvbuild.build.workers import Executor
from rvbuild.build.workspace import Workspace, locked
from rvbuild.checks import project as across
from rvbuild.checks import resources
from rvbuild.checks.findings import Finding, Level
from rvbuild.cli import report, showing
from rvbuild.cli.session import Session, code_of, jobs_default, load_all, make_executor, project_paths, rules
from rvbuild.errors import ProjectError
from rvbuild.progress import Silent
from rvbuild.project import Project, Scene, missing_files

_BATCH = 25
"""Scenes that a worker looks at in one job."""

_DONE = (State.FRESH, State.RESTORABLE)


def check(words: Sequence[str], overrides: Sequence[str], deep: bool = False) -> int:
    """Look for all that is wrong with projects and their files, with `deep` in all pixels; raise with every error."""
    projects = load_all(project_paths(words), overrides)
    problems = [problem for project in projects for problem in missing_files(project)]
    if problems:
        raise ProjectError(problems)
    workspace = Workspace(projects[0].workspace, lambda line: click.echo(line, err=True))
    executor = make_executor(workspace)
    try:
        facts = {project.name: _facts(project, workspace, executor, None) for project in projects}
        shared = {project.name: _shared(project, facts[project.name], workspace, executor) for project in projects}
        artifacts = [a for project in projects for a in rules().chip.artifacts(project, "")]
        plan = Plan(workspace, artifacts, lambda views: [None] * len(views))
        cut = {project.name: _cut(plan, project) for project in projects}
    finally:
        executor.close()
        workspace.close()
    if deep:
        facts = {project.name: _surveyed(project, facts[project.name]) for project in projects}
    found = {p.name: _findings(p, facts[p.name], shared[p.name], cut[p.name]) for p in projects}
    errors = [line for project in projects for line in tell(project, _of(found[project.name], Level.ERROR))]
    warnings = [line for project in projects for line in tell(project, _of(found[project.name], Level.WARNING))]
    for line in warnings:
        click.echo(line)
    if errors:
        raise ProjectError(errors)
    for project in projects:
        counts = {split: sum(s.split == split for s in project.scenes) for split in ("train", "validation", "test")}
        said = ", ".join(f"{n} {split}" for split, n in counts.items() if n) or "none"
        doubts = len(_of(found[project.name], Level.WARNING))
        but = f", with {doubts} warning{'s' if doubts > 1 else ''}" if doubts else ""
        click.echo(f"{project.path}: good{but} ({project.task}; scenes: {said}; {len(project.classes)} classes)")
    return 0


def before_build(now: Session, closure: Sequence[Artifact], keep_going: bool, say: Callable[[str], None]) -> None:
    """Look at the scenes that artifacts are going to be made of; nothing is opened if none is.

    Parameters
    ----------
    now, closure
        The session, and the artifacts that the command brings up to date.
    keep_going
        Errors are said and not raised: what they do not concern is built.
    say
        Receives warnings.

    Raises
    ------
    ProjectError
        With all errors.
    """
    pending = [a for a in closure if now.plan[a.name].decision.state not in _DONE]
    if pending:
        now.executor.prepare()
    errors: list[str] = []
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
        facts = _facts(project, now.workspace, now.executor, scenes)
        shared = _shared(project, facts, now.workspace, now.executor)
        every = _findings(project, facts, shared, _cut(now.plan, project))
        findings = [finding for finding in every if _concerns(finding, roles, stages)]
        for line in tell(project, _of(findings, Level.WARNING)):
            say(line)
        errors += tell(project, _of(findings, Level.ERROR))
    if errors and not keep_going:
        raise ProjectError(errors)
    for line in errors:
        say(line)


def tell(project: Project, findings: Iterable[Finding]) -> list[str]:
    """Return findings for people, each with its place in the project file; many of one kind together."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    scenes = {scene.id: scene for scene in project.scenes}
    for finding in findings:
        groups.setdefault((_where(project, finding, scenes), finding.kind), []).append(finding)
    lines = []
    for (where, _), members in groups.items():
        several = len(members) > _SHOWN
        for member in members[: 1 if several else _SHOWN]:
            doubt = "warning: " if member.level is Level.WARNING else ""
            lines.append(f"{where}: {doubt}{_text(project, member)}")
        if several:
            others = [member.scene for member in members[1:]]
            named = ", ".join(others[:_LISTED]) + (", …" if len(others) > _LISTED else "")
            lines[-1] += f"\n    and so {len(others)} more scenes: {named}"
    return lines


_SHOWN = 3
"""Findings of one kind up to which all are told in full."""

_LISTED = 8
"""Scenes that are named when many share a finding."""


def _where(project: Project, finding: Finding, scenes: Mapping[str, Scene]) -> str:
    """Return the place in the project file of what a finding is about."""
    scene = scenes.get(finding.scene)
    base = scene.base if scene is not None else ""
    if finding.key:
        return project.where(finding.key, base)
    if written := project.written.get((base, finding.part), ()):
        named = (at for at, path in zip(written, _files(scene, finding.part), strict=True) if path in finding.text)
        return next(named, written[0]).where
    return project.where(scene.key if scene is not None else ())


def _files(scene: Scene | None, part: str) -> Sequence[str]:
    """Return the files of one part of a scene."""
    if scene is None:
        return ()
    labels = scene.labels.files if scene.labels else ()
    return {"image": scene.image.files, "labels": labels, "aoi": scene.aoi}[part]


def _text(project: Project, finding: Finding) -> str:
    text = finding.text.replace(f"{project.workspace}/", "")
    return f"scene {finding.scene}: {text}" if finding.scene else text


def _of(findings: Iterable[Finding], level: Level) -> list[Finding]:
    return [finding for finding in findings if finding.level is level]


def _concerns(finding: Finding, roles: Mapping[str, set[str]], stages: Collection[str]) -> bool:
    """Tell whether a finding is about something that the artifacts to be built read."""
    if finding.scene:
        return finding.scene in roles and (not finding.part or finding.part in roles[finding.scene])
    return "chip" in stages or "train" in stages


def _findings(
    project: Project, facts: Mapping[str, Any], shared: Iterable[Mapping[str, Any]], cut: Collection[str]
) -> list[Finding]:
    """Return all findings about a project; `cut` are the scenes that have chips."""
    to_cut = [id_ for id_ in facts if id_ not in cut]
    return [*across.findings(project, facts, shared), *resources.findings(project, facts, to_cut)]


def _surveyed(project: Project, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts to which all pixels of the scenes that could be opened have been added."""
    broken = {id_ for id_, one in facts.items() if _broken(one)}
    whole = replace(project, scenes=tuple(scene for scene in project.scenes if scene.id not in broken))
    reporter = report.make(False, 0, False)
    try:
        with locked(project.workspace, reporter.note), showing.surveys([whole], reporter) as (now, outcomes):
            folder = now.workspace.cache / project.name / "data"
            done = {o.artifact.scene for o in outcomes if o.did in showing.DONE and o.artifact.scene is not None}
            surveys = {id_: json.loads((folder / f"{id_}.json").read_text(encoding="utf-8")) for id_ in done}
            failed = {o.artifact.scene: o.message for o in outcomes if o.did is Did.FAILED}
    finally:
        reporter.close()
    labels = {scene.id: scene.labels.files[0] for scene in project.scenes if scene.labels}
    found = across.with_surveys(facts, surveys, labels)
    for id_, message in failed.items():
        if id_ is not None:
            problem = [Level.ERROR.value, "", "unreadable", message, []]
            found[id_] = {**found[id_], "problems": [*found[id_]["problems"], problem]}
    return found


def _facts(
    project: Project, workspace: Workspace, executor: Executor, scenes: Collection[str] | None
) -> dict[str, Any]:
    """Return what is known of scenes, looking only at those whose answer is not kept."""
    rule, state = _rule(), workspace.state
    requests = list(rule.requests(project, scenes))
    keys, name = rule.keys(requests), _name(rule.RUN, project, workspace)
    kept = state.views(keys.values(), name)
    known = [(id_, kept[key]) for id_, key in keys.items() if key in kept]
    # As one document: thousands are read faster.
    facts = dict(zip((id_ for id_, _ in known), json.loads(f"[{','.join(text for _, text in known)}]"), strict=True))
    new = [request for request in requests if request.scene not in facts]
    if new:
        for request, answer in zip(new, _ask(new, workspace, executor), strict=True):
            facts[request.scene] = answer
        # What cannot be read may be readable next time, whatever it was that was in the way.
        again = rule.keys(request for request in new if not _broken(facts[request.scene]))
        good = [id_ for id_, key in again.items() if key == keys[id_]]
        state.remember_views((keys[id_], name, json.dumps(facts[id_])) for id_ in good)
    return facts


def _name(run: str, project: Project, workspace: Workspace) -> str:
    """Return the name under which answers are kept: that of the code that gives them."""
    return f"{run} {code_of(_rule(), project, workspace)}"


def _broken(facts: Mapping[str, Any]) -> bool:
    """Tell whether a scene has an error."""
    return any(level == Level.ERROR.value for level, *_ in facts["problems"])


def _shared(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor
) -> list[dict[str, Any]]:
    """Return which scenes show ground that is in an earlier split, too; kept for as long as the scenes stay there."""
    scenes = [
        {"id": scene.id, "base": scene.base, "split": scene.split, "ground": facts[scene.id]["ground"]}
        for scene in project.scenes
        # Of a scene without labels nothing is learnt, and nothing is evaluated.
        if scene.labels is not None and "ground" in facts.get(scene.id, ())
    ]
    if len({scene["split"] for scene in scenes}) < 2:
        return []
    key, name = digest(scenes), _name(_rule().RUN_SHARED, project, workspace)
    kept = workspace.state.view(key, name)
    if kept is None:
        kept = json.dumps(executor.run(Job(_rule().RUN_SHARED, {"scenes": scenes}, reports=False), Silent()))
        workspace.state.remember_views([(key, name, kept)])
    found: list[dict[str, Any]] = json.loads(kept)
    return found


def _cut(plan: Plan, project: Project) -> set[str]:
    """Return the scenes that have chips."""
    chips = (a for a in plan.artifacts.values() if a.project == project.name and a.stage == "chip")
    return {a.scene for a in chips if a.scene is not None and plan.is_shown(a.name)}


def _ask(requests: Sequence[Any], workspace: Workspace, executor: Executor) -> list[dict[str, Any]]:
    batches = [requests[start : start + _BATCH] for start in range(0, len(requests), _BATCH)]

    def one(batch: Sequence[Any]) -> list[dict[str, Any]]:
        scenes = [{"inputs": dict(r.inputs), "settings": dict(r.settings)} for r in batch]
        job = Job(_rule().RUN, {"scenes": scenes}, path=str(workspace.root), reports=False)
        return list(executor.run(job, Silent()))

    with ThreadPoolExecutor(max_workers=min(len(batches), jobs_default())) as pool:
        return [answer for answers in pool.map(one, batches) for answer in answers]


def _rule() -> Any:
    return importlib.import_module(f"{rules().__name__}.check")
