"""Checks before work: the command `check`, and what every build looks at before it begins."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from rvbuild import rules
from rvbuild.checks import project as across
from rvbuild.checks import resources, tags
from rvbuild.checks.findings import Finding, Level
from rvbuild.cli import report, trusting
from rvbuild.cli.commands import data as showing
from rvbuild.cli.commands import facts as looking
from rvbuild.cli.session import Session, find_companions, jobs_default, load_all, make_executor, project_paths
from rvbuild.cli.terminal import echo
from rvbuild.cores import cores, thread_count
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.plan.decide import State
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.outcome import Did
from rvbuild.engine.run.workers import Executor
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.errors import ProjectError
from rvbuild.project.missing import missing_files
from rvbuild.project.model import LayeredLabels, Project, RasterLabels, Scene

_DONE = (State.FRESH, State.RESTORABLE)


def check(words: Sequence[str], overrides: Sequence[str], deep: bool = False, trust: bool = False) -> int:
    """Look for all that is wrong with projects and their files, with `deep` in all pixels; raise with every error.

    With `trust`, or in a workspace that the user has trusted before, the user's code may transform pixels.
    """
    projects = load_all(project_paths(words), overrides)
    problems = [problem for project in projects for problem in missing_files(project)]
    if problems:
        raise ProjectError(problems)
    runs_code = trusting.may_look(projects[0].workspace, trust)
    workspace = Workspace(projects[0].workspace, lambda line: echo(line, err=True))
    executor = make_executor(workspace, projects)
    try:
        find_companions(workspace, projects, executor)
        known = {}
        for project in projects:
            facts = looking.facts_of(project, workspace, executor, None, runs_code)
            problem = looking.model_problem(project, facts, workspace, executor, None)
            known[project.name] = _known(project, facts, workspace, executor)._replace(problem=problem)
        # What was predicted is asked for where predictions are large.
        every = [rules.artifacts(p) if p.predict.scores else rules.chip.artifacts(p, "") for p in projects]
        plan = Plan(workspace, [a for some in every for a in some], lambda views: [None] * len(views))
    finally:
        executor.close()
        workspace.close()
    if deep:
        known = {p.name: known[p.name]._replace(facts=_surveyed(p, known[p.name].facts, runs_code)) for p in projects}
    found = {p.name: _findings(p, known[p.name], plan, jobs_default()) for p in projects}
    errors = [line for project in projects for line in tell(project, _of(found[project.name], Level.ERROR))]
    warnings = [line for project in projects for line in tell(project, _of(found[project.name], Level.WARNING))]
    for line in [*warnings, *trusting.left_out(projects, "check", runs_code)]:
        echo(line)
    if errors:
        raise ProjectError(errors)
    for project in projects:
        counts = {split: sum(s.split == split for s in project.scenes) for split in ("train", "validation", "test")}
        said = ", ".join(f"{n} {split}" for split, n in counts.items() if n) or "none"
        doubts = len(_of(found[project.name], Level.WARNING))
        but = f", with {doubts} warning{'s' if doubts > 1 else ''}" if doubts else ""
        echo(f"{project.path}: good{but} ({project.task}; scenes: {said}; {len(project.classes)} classes)")
        if not deep and any(isinstance(s.labels, RasterLabels | LayeredLabels) for s in project.scenes):
            echo("  of label rasters only some pixels were read; `rvbuild check --deep` reads them all")
        images = {id_: one["image"] for id_, one in known[project.name].facts.items() if "image" in one}
        for line in tags.notes(images):
            echo(f"  {line}")
    return 0


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
        computing = [a for a in of_project if a.stage in ("train", "infer")]
        known = _known(project, facts, now.workspace, now.executor, at_once if computing else 0)
        if "train" in stages:
            # The store elsewhere may have the model: then nothing is trained, and no weights are needed.
            trains = now.workspace.elsewhere is None
            problem = looking.model_problem(project, facts, now.workspace, now.executor, say if trains else None)
            known = known._replace(problem=problem)
        if at_once > 1:
            takes = resources.computing_bytes(project, facts, known.model)
            memory |= {a.name: takes[a.stage] for a in computing}
        every = _findings(project, known, now.plan, jobs)
        findings = [finding for finding in every if _concerns(finding, roles, stages)]
        for line in tell(project, _of(findings, Level.WARNING)):
            say(line)
        errors += tell(project, _of(findings, Level.ERROR))
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
            others = list(dict.fromkeys(member.scene for member in members[1:]))
            named = ", ".join(others[:_LISTED]) + (", …" if len(others) > _LISTED else "")
            if len(others) == len(members) - 1 and members[0].scene not in others:
                lines[-1] += f"\n    and so {len(others)} more scenes: {named}"
            else:
                lines[-1] += f"\n    and {len(members) - 1} more of this kind, in {named}"
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
    if finding.kind == across.NOT_READ:
        return False  # the stages are going to read them
    if finding.scene:
        return finding.scene in roles and (not finding.part or finding.part in roles[finding.scene])
    return "chip" in stages or "train" in stages


class _Known(NamedTuple):
    """What is known of a project: see `looking`."""

    facts: Mapping[str, Any]
    shared: Sequence[Mapping[str, Any]]
    model: Mapping[str, int] | None
    problem: tuple[str, bool] = ("", True)
    """Why the model cannot be trained, and whether that is certain."""


def _known(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor, at_once: int = 1
) -> _Known:
    """Return what is known of a project; of the model's memory, if so many compute at once."""
    shared = looking.shared_ground(project, facts, workspace, executor)
    model = looking.model_memory(project, facts, workspace, executor, at_once) if at_once else None
    return _Known(facts, shared, model)


def _model(problem: str, certain: bool) -> Finding:
    """Return what is wrong with the model, at the key that the message begins with."""
    key = re.match(r"train\.([a-z_]+)(?:\.[a-z_]+)?: ", problem)
    level = Level.ERROR if certain else Level.WARNING
    text, at = (problem[key.end() :], ("train", key[1])) if key else (problem, ("train",))
    return Finding(level, "model", text, key=at)


def _findings(project: Project, known: _Known, plan: Plan, jobs: int) -> list[Finding]:
    """Return all findings about a project."""
    done = {stage: looking.made(plan, project, stage) for stage in ("chip", "infer")}
    split = {scene.id: scene.split for scene in project.scenes}
    to_cut = [id_ for id_ in known.facts if id_ not in done["chip"] and split[id_] != "test"]
    to_predict = [id_ for id_ in known.facts if id_ not in done["infer"] and split[id_] != "train"]
    needs = resources.findings(project, known.facts, to_cut, to_predict, known.model, jobs)
    model = [_model(*known.problem)] if known.problem[0] else []
    return [*across.findings(project, known.facts, known.shared), *needs, *model]


def _surveyed(project: Project, facts: Mapping[str, Any], runs_code: bool) -> dict[str, Any]:
    """Return facts to which all pixels of the scenes that could be opened have been added."""
    broken = {id_ for id_, one in facts.items() if looking.broken(one, across.SAMPLED)}
    whole = replace(project, scenes=tuple(scene for scene in project.scenes if scene.id not in broken))
    reporter = report.make(False, 0, False)
    try:
        with locked(project.workspace, reporter.note), showing.surveys([whole], reporter, runs_code) as (now, outcomes):
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
