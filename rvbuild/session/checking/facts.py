"""What is looked at before work starts: asked of workers, and kept for as long as it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rvbuild.checks import resources
from rvbuild.checks.findings import Level
from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.inputs import code_of as served_code
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Executor
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import WorkerDiedError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Silent
from rvbuild.project.model import Project
from rvbuild.rules import check
from rvbuild.session.session import code_of, jobs_default

_BATCH = 25
"""Scenes that a worker looks at in one job."""


_SURE_PX = 128
"""Every named model takes chips of this side, and of larger ones."""


def facts_of(
    project: Project, workspace: Workspace, executor: Executor, scenes: Collection[str] | None, runs_code: bool
) -> dict[str, Any]:
    """Return what is known of scenes, looking only at those whose answer is not kept.

    Unless `runs_code`, images are looked at as they are before code of the user's transforms them.
    """
    rule, state = check, workspace.state
    requests = list(rule.requests(project, scenes, runs_code))
    keys, name = rule.keys(requests), _name(rule.RUN, project, workspace)
    kept = state.content_digests(keys.values(), name)
    known = [(id_, kept[key]) for id_, key in keys.items() if key in kept]
    # As one document: thousands are read faster.
    facts = dict(zip((id_ for id_, _ in known), json.loads(f"[{','.join(text for _, text in known)}]"), strict=True))
    new = [request for request in requests if request.scene not in facts]
    if new:
        for request, answer in zip(new, _ask(new, workspace, executor), strict=True):
            facts[request.scene] = answer
        # What cannot be read may be readable next time, whatever it was that was in the way.
        again = rule.keys(request for request in new if not broken(facts[request.scene]))
        good = [id_ for id_, key in again.items() if key == keys[id_]]
        state.remember_content_digests((keys[id_], name, json.dumps(facts[id_])) for id_ in good)
    return facts


def _name(run: str, project: Project, workspace: Workspace) -> str:
    """Return the name under which answers are kept: that of the code that gives them."""
    return f"{run} {code_of(check, project, workspace)}"


def broken(facts: Mapping[str, Any], but: str = "") -> bool:
    """Tell whether a scene has an error, of another kind than `but`."""
    return any(level == Level.ERROR.value and kind != but for level, _, kind, *_ in facts["problems"])


def shared_ground(
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
    job = Job(check.RUN_SHARED, {"scenes": scenes}, reports=False)
    found: list[dict[str, Any]] = _answer(job, scenes, project, workspace, executor)
    return found


def made(plan: Plan, project: Project, stage: str) -> set[str]:
    """Return the scenes of which a stage has made what it makes."""
    some = (a for a in plan.artifacts.values() if a.project == project.name and a.stage == stage)
    return {a.scene for a in some if a.scene is not None and plan.is_shown(a.name)}


def model_memory(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor, at_once: int = 1
) -> dict[str, int] | None:
    """Return what the model takes of memory, if that is worth a look: torch is loaded for it, once.

    It is if so many that compute at once might not fit.
    """
    if not resources.needs_measuring(project, facts, at_once):
        return None
    how = {
        "task": project.task,
        "model": project.train.model,
        "args": project.train.stage_settings()["model_args"],
        "bands": resources.bands_of(facts),
        "outputs": len(project.classes) - 1,
        "chip_px": project.chip_px,
        "device": project.train.device,
    }
    job = Job(check.RUN_MEMORY, how, "torch", reports=False)
    found: dict[str, int] | None = _answer(job, how, project, workspace, executor)
    return found


def model_problem(
    project: Project,
    facts: Mapping[str, Any],
    workspace: Workspace,
    executor: Executor,
    say: Callable[[str], None] | None,
) -> tuple[str, bool]:
    """Return why the model cannot be trained, and whether that is certain; empty if nothing speaks against it.

    That is kept, and a problem is not.

    With `say`, which is told of a download, weights are downloaded, and models of the user's own are made: something is
    about to be built. Without it, their code does not run.
    """
    images = {
        "bands": resources.bands_of(facts),
        "dtype": None if say is None and _changed_by_code(project) else _dtype_of(facts),
    }
    if project.train.backend is not None:
        return _backend_problem(project, images, workspace, executor) if say is not None else ("", True)
    how = {**check.model(project), **images, "outputs": len(project.classes) - 1}
    own = ":" in how["model"]
    no_figures = isinstance(how["normalize"], str)
    sure = how["start"] == "random" and not how["args"] and how["chip_px"] >= _SURE_PX and no_figures
    if say is None if own else sure:
        return "", True
    path: str | None = how["path"]
    seen = None if path is None else signature(path)
    key, name = digest([how, seen, say is None]), _name(check.RUN_MODEL, project, workspace)
    if not own and workspace.state.content_digest(key, name) is not None:
        return "", True
    code = served_code(check.user_code(project) if own else (), workspace.root)
    job = Job(check.RUN_MODEL, {**how, "download": say is not None}, "torch", code)
    problem, certain = executor.run(job, _Told(say))
    if not problem and not own:
        workspace.state.remember_content_digest(key, name, json.dumps(""))
    return problem, certain


def _backend_problem(
    project: Project, images: Mapping[str, Any], workspace: Workspace, executor: Executor
) -> tuple[str, bool]:
    """Return why the training backend cannot be used; its factory is called if the images are known."""
    if not images["bands"] or images["dtype"] is None:
        return "", True
    code = served_code(check.user_code(project), workspace.root)
    job = Job(check.RUN_BACKEND, {**check.backend(project), **images}, code=code)
    problem: tuple[str, bool] = executor.run(job, Silent())
    return problem


def _changed_by_code(project: Project) -> bool:
    """Tell whether code of the user's transforms pixels of some image."""
    return any(scene.image.modules() for scene in project.scenes)


def _dtype_of(facts: Mapping[str, Any]) -> str | None:
    """Return the dtype of the images; None if no image could be read, or if they differ in it."""
    found = {one["image"]["dtype"] for one in facts.values() if "image" in one}
    return found.pop() if len(found) == 1 else None


class _Told(Silent):
    """A progress of which only the notes are told."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self._say = say

    def note(self, message: str) -> None:
        """Tell the user one line."""
        if self._say is not None:
            self._say(message)


def _answer(job: Job, question: Any, project: Project, workspace: Workspace, executor: Executor) -> Any:
    """Return what `job` answers, as JSON data; kept for as long as the question and the code are the same."""
    key, name = digest(question), _name(job.function, project, workspace)
    kept = workspace.state.content_digest(key, name)
    if kept is None:
        kept = json.dumps(executor.run(job, Silent()))
        workspace.state.remember_content_digest(key, name, kept)
    return json.loads(kept)


def _ask(requests: Sequence[Any], workspace: Workspace, executor: Executor) -> list[dict[str, Any]]:
    batches = [requests[start : start + _BATCH] for start in range(0, len(requests), _BATCH)]

    def one(batch: Sequence[Any]) -> list[dict[str, Any]]:
        scenes = [{"inputs": dict(r.inputs), "settings": dict(r.settings)} for r in batch]
        code = served_code([source for request in batch for source in request.code], workspace.root)
        job = Job(check.RUN, {"scenes": scenes}, code=code, reports=False)
        try:
            return list(executor.run(job, Silent()))
        except WorkerDiedError as error:
            if len(batch) > 1:  # the others are fine, perhaps
                return [answer for request in batch for answer in one([request])]
            return [_deadly(batch[0], error)]

    return [answer for answers in map_threads(one, batches, jobs_default()) for answer in answers]


def _deadly(request: Any, error: WorkerDiedError) -> dict[str, Any]:
    """Return the facts of a scene that ended the process that looked at it."""
    parts = (part for part, files in request.inputs.items() if set(map(str, files)) & set(error.files))
    return {"problems": [[Level.ERROR.value, next(parts, "image"), "deadly", str(error), []]]}
