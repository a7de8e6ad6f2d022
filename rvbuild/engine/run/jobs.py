"""The job of an artifact: the function of its stage, with its arguments; and what it must have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.artifact import Artifact, Product, Source
from rvbuild.engine.plan.plan import Plan
from rvbuild.engine.plan.products import selected
from rvbuild.engine.run.made import File, Made
from rvbuild.engine.run.worker import Job
from rvbuild.engine.store.state import Output
from rvbuild.errors import StageError
from rvbuild.language.user_code import Code


def job_of(
    plan: Plan, artifact: Artifact, staging: Path, resume: Path | None, offer: Mapping[str, Output], grows: Path | None
) -> Job:
    """Return the job of an artifact.

    Parameters
    ----------
    plan, artifact
        The artifact, and the plan that knows its inputs.
    staging
        The directory that the stage writes into.
    resume
        The directory of its checkpoints, if it has any.
    offer
        The files of the previous result that it may use.
    grows
        The file that grows while it runs, if there is one.
    """
    kwargs: dict[str, Any] = {
        "inputs": paths_of(plan, artifact),
        "settings": settings_of(artifact),
        "outputs": staging,
    }
    root = plan.workspace.root
    if resume is not None:
        kwargs["resume"] = resume
    if grows is not None:
        kwargs["live"] = grows
    if offer:
        kwargs["previous"] = {name: root / output.path for name, output in offer.items()}
    code = code_of(artifact.code_of_users(), root)
    return Job(artifact.run, kwargs, artifact.resource, code, label=artifact.name)


def declared(artifact: Artifact, made: Made) -> Mapping[str, File]:
    """Return the files that the stage wrote.

    Raises
    ------
    StageError
        There are none, or one is not declared.
    """
    if undeclared := artifact.undeclared(made.files):
        raise StageError(f"the stage {artifact.stage} wrote {', '.join(undeclared)}, which its rule does not declare")
    if not made.files:
        raise StageError(f"the stage {artifact.stage} wrote no output")
    return made.files


def code_of(sources: Iterable[Source], workspace: Path) -> Code | None:
    """Return the user code that a job may import, or None if none of its inputs is code."""
    sources = list(sources)
    if not sources:
        return None
    served = {name: path for source in sources for name, path in source.modules.items()}
    files = dict.fromkeys(str(path) for source in sources for path in source.files)
    others = tuple(path for path in files if path not in served.values())
    folders = dict.fromkeys(str(path) for source in sources for path in source.listed)
    variables = dict.fromkeys(name for source in sources for name in source.variables)
    return Code(str(workspace), served, others, tuple(folders), tuple(variables))


def paths_of(plan: Plan, artifact: Artifact) -> dict[str, list[Path]]:
    """Return the paths that the stage of an artifact reads, by role."""
    paths: dict[str, list[Path]] = {}
    for item in artifact.inputs:
        if isinstance(item, Product):
            origin = plan.artifacts[item.artifact]
            outputs = plan[item.artifact].outputs or {}
            paths[item.role] = [plan.workspace.root / origin.shown(n) for n in selected(item, outputs)]
        elif item.passed:
            paths[item.role] = list(item.files)
    return paths


def settings_of(artifact: Artifact) -> dict[str, object]:
    """Return the settings for the stage of an artifact: those in its key, and hints that only affect speed."""
    settings = dict(artifact.settings)
    for table, hints in artifact.hints.items():
        in_key = settings.get(table, {})
        assert isinstance(in_key, dict)
        settings[table] = {**in_key, **hints}
    return settings
