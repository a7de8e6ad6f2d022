"""Facts about the files of projects before work: computed by workers, and stored until the files change."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rvbuild.checks import resources
from rvbuild.checks.findings import Level
from rvbuild.engine.keys.artifact import Resource, digest
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.run.jobs import code_of as served_code
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Executor
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import WorkerDiedError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Silent
from rvbuild.project.model import Project
from rvbuild.rules import check
from rvbuild.session.executors import jobs_default
from rvbuild.session.session import code_of

_BATCH = 25
"""Number of scenes that a worker checks in one job."""


_SURE_PX = 128
"""Every named model accepts chips of at least this side."""


def facts_of(
    project: Project, workspace: Workspace, executor: Executor, scenes: Collection[str] | None, runs_code: bool
) -> dict[str, Any]:
    """Return scene → facts; only scenes without a stored answer are checked.

    Unless `runs_code`, images are checked before user code transforms them.
    """
    rule, state = check, workspace.state
    requests = list(rule.requests(project, scenes, runs_code))
    keys, name = rule.keys(requests), _name(rule.RUN, project, workspace)
    stored = state.content_digests(keys.values(), name)
    stored_texts = [(id_, stored[key]) for id_, key in keys.items() if key in stored]
    # One document is parsed faster than thousands.
    facts = dict(
        zip(
            (id_ for id_, _ in stored_texts), json.loads(f"[{','.join(text for _, text in stored_texts)}]"), strict=True
        )
    )
    new = [request for request in requests if request.scene not in facts]
    if new:
        for request, answer in zip(new, _ask(new, workspace, executor), strict=True):
            facts[request.scene] = answer
        # An error may be transient: a file that cannot be read may be readable the next time.
        again = rule.keys(request for request in new if not broken(facts[request.scene]))
        good = [id_ for id_, key in again.items() if key == keys[id_]]
        state.remember_content_digests((keys[id_], name, json.dumps(facts[id_])) for id_ in good)
    return facts


def _name(run: str, project: Project, workspace: Workspace) -> str:
    """Return the name under which answers are stored, which identifies the code that computes them."""
    return f"{run} {code_of(check, project, workspace)}"


def broken(facts: Mapping[str, Any], but: str = "") -> bool:
    """Tell whether a scene has an error of a kind other than `but`."""
    return any(level == Level.ERROR.value and kind != but for level, _, kind, *_ in facts["problems"])


def shared_ground(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor
) -> list[dict[str, Any]]:
    """Return the overlaps of scenes with scenes of earlier splits; stored until the scenes change."""
    scenes = [
        {"id": scene.id, "base": scene.base, "split": scene.split, "ground": facts[scene.id]["ground"]}
        for scene in project.scenes
        # Scenes without labels are neither learnt from nor evaluated.
        if scene.labels is not None and "ground" in facts.get(scene.id, ())
    ]
    if len({scene["split"] for scene in scenes}) < 2:
        return []
    job = Job(check.RUN_SHARED, {"scenes": scenes}, reports=False)
    overlaps: list[dict[str, Any]] = _answer(job, scenes, project, workspace, executor)
    return overlaps


def completed(plan: Plan, project: Project, stage: str) -> set[str]:
    """Return the scenes for which a stage already has a result in the workspace."""
    artifacts = (a for a in plan.artifacts.values() if a.project == project.name and a.stage == stage)
    return {a.scene for a in artifacts if a.scene is not None and plan.is_shown(a.name)}


def model_memory(
    project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor, at_once: int = 1
) -> dict[str, int] | None:
    """Return the memory that the model needs, or None if it certainly fits. Measuring loads torch once.

    `at_once` is the number of processes that compute in parallel.
    """
    if not resources.needs_measuring(project, facts, at_once):
        return None
    settings = {
        "task": project.task,
        "model": project.train.model,
        "args": project.train.stage_settings()["model_args"],
        "bands": resources.bands_of(facts),
        "outputs": len(project.classes) - 1,
        "chip_px": project.chip_px,
        "device": project.train.device,
    }
    job = Job(check.RUN_MEMORY, settings, Resource.TORCH, reports=False)
    memory: dict[str, int] | None = _answer(job, settings, project, workspace, executor)
    return memory


def model_problem(
    project: Project,
    facts: Mapping[str, Any],
    workspace: Workspace,
    executor: Executor,
    notify: Callable[[str], None] | None,
) -> tuple[str, bool]:
    """Return why the model cannot be trained (empty if it can), and whether this is certain.

    Success is stored; a problem is not.

    With `notify`, which receives the progress of a download, weights are downloaded and models of user code are
    created, because a build follows. Without it, user code does not run.
    """
    images = {
        "bands": resources.bands_of(facts),
        "dtype": None if notify is None and _changed_by_code(project) else _dtype_of(facts),
    }
    if project.train.backend is not None:
        return _backend_problem(project, images, workspace, executor) if notify is not None else ("", True)
    trial = check.model(project)
    settings = {**trial, **images, "outputs": len(project.classes) - 1}
    is_own = ":" in trial["model"]
    no_figures = isinstance(trial["normalize"], str)
    is_safe = trial["start"] == "random" and not trial["args"] and trial["chip_px"] >= _SURE_PX and no_figures
    if notify is None if is_own else is_safe:
        return "", True
    path = trial["path"]
    file_state = None if path is None else signature(path)
    key, name = digest([settings, file_state, notify is None]), _name(check.RUN_MODEL, project, workspace)
    if not is_own and workspace.state.content_digest(key, name) is not None:
        return "", True
    code = served_code(check.user_code(project) if is_own else (), workspace.root)
    job = Job(check.RUN_MODEL, {**settings, "download": notify is not None}, Resource.TORCH, code)
    problem, certain = executor.run(job, _NotesOnly(notify))
    if not problem and not is_own:
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


def encoder_problem(project: Project, facts: Mapping[str, Any], workspace: Workspace, executor: Executor) -> str:
    """Return why the encoder of drafts cannot be used; empty if it can, which is stored, or if it is not checked."""
    trial = check.encoder(project)
    if trial is None:
        return ""
    question, path = {**trial, "bands": resources.bands_of(facts)}, trial["weights"]
    file_state = None if path is None else signature(path)
    key, name = digest([question, file_state]), _name(check.RUN_ENCODER, project, workspace)
    if path is not None and workspace.state.content_digest(key, name) is not None:
        return ""
    problem = str(executor.run(Job(check.RUN_ENCODER, question, Resource.TORCH, reports=False), Silent()))
    if path is not None and not problem:
        workspace.state.remember_content_digest(key, name, json.dumps(""))
    return problem


def _changed_by_code(project: Project) -> bool:
    """Tell whether user code transforms pixels of an image."""
    return any(scene.image.modules() for scene in project.scenes)


def _dtype_of(facts: Mapping[str, Any]) -> str | None:
    """Return the dtype of the images; None if no image could be read, or if dtypes differ."""
    dtypes = {scene_facts["image"]["dtype"] for scene_facts in facts.values() if "image" in scene_facts}
    return dtypes.pop() if len(dtypes) == 1 else None


class _NotesOnly(Silent):
    """A progress that only forwards notes."""

    def __init__(self, notify: Callable[[str], None] | None) -> None:
        self._notify = notify

    def note(self, message: str) -> None:
        """Forward a line."""
        if self._notify is not None:
            self._notify(message)


def _answer(job: Job, question: Any, project: Project, workspace: Workspace, executor: Executor) -> Any:
    """Return the answer of `job`, as JSON data; stored until the question or the code changes."""
    key, name = digest(question), _name(job.function, project, workspace)
    stored = workspace.state.content_digest(key, name)
    if stored is None:
        stored = json.dumps(executor.run(job, Silent()))
        workspace.state.remember_content_digest(key, name, stored)
    return json.loads(stored)


def _ask(requests: Sequence[Any], workspace: Workspace, executor: Executor) -> list[dict[str, Any]]:
    batches = [requests[start : start + _BATCH] for start in range(0, len(requests), _BATCH)]

    def ask_batch(batch: Sequence[Any]) -> list[dict[str, Any]]:
        scenes = [{"inputs": dict(r.inputs), "settings": dict(r.settings)} for r in batch]
        code = served_code([source for request in batch for source in request.code], workspace.root)
        job = Job(check.RUN, {"scenes": scenes}, code=code, reports=False)
        try:
            return list(executor.run(job, Silent()))
        except WorkerDiedError as error:
            if len(batch) > 1:  # the other scenes may be fine
                return [answer for request in batch for answer in ask_batch([request])]
            return [_fatal(batch[0], error)]

    return [answer for answers in map_threads(ask_batch, batches, jobs_default()) for answer in answers]


def _fatal(request: Any, error: WorkerDiedError) -> dict[str, Any]:
    """Return the facts of a scene whose check killed the process."""
    parts = (part for part, files in request.inputs.items() if set(map(str, files)) & set(error.files))
    return {"problems": [[Level.ERROR.value, next(parts, "image"), "deadly", str(error), []]]}
