"""A workspace's own stages: rules in the files of `[project] rules`, with the same interface as the built-in ones.

A rule has `VERSION` and `artifacts(project, code)`. The function of a stage is found by the dotted path `run`, and is
part of the key together with everything that it imports from the workspace. A rule depends on another stage through a
`Product`. If the labels, the image or the area of interest of a scene are outputs of an own stage, artifacts that read
them wait for that stage.
"""

from __future__ import annotations

import contextlib
import graphlib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.artifact import Artifact, Product, Resource, Source, canonical
from rvbuild.engine.run.jobs import code_of
from rvbuild.errors import RvbuildError, UsageError, nearest
from rvbuild.language.user_code import forget_modules, serve_code
from rvbuild.language.user_files import watching
from rvbuild.project.model import Project
from rvbuild.project.tables.own_rules import module_of, stage_of
from rvbuild.project.toml.table import REFERENCE
from rvbuild.rules.common import name
from rvbuild.rules.inputs.own_code import code_of_modules

CODE_ROLE = "code of the stage"
"""The role of an own stage's code among its inputs."""


def where(project: Project, rule: str) -> str:
    """Return the place in the project file that names a rule."""
    return project.where(("project", "rules", project.rules.index(rule)))


def files(project: Project) -> list[Path]:
    """Return the files of the workspace that planning executes.

    Raises
    ------
    UsageError
        A rule does not exist, or cannot be imported as a module of the workspace.
    """
    missing = [rule for rule in project.rules if not (project.workspace / rule).is_file()]
    if missing:
        raise UsageError("\n".join(f"{where(project, rule)}: no such file: {rule}" for rule in missing))
    modules = {name: file for source in _code(project) for name, file in source.modules.items()}
    for rule in project.rules:
        if Path(modules.get(module_of(rule), "")) != project.workspace / rule:
            package = rule.partition("/")[0]
            spec = PathFinder.find_spec(package)
            other = "" if spec is None or spec.origin is None else f" ({spec.origin})"
            raise UsageError(
                f"{where(project, rule)}: Python does not import {rule} as {module_of(rule)}, because there is another "
                f"package {package}{other}. Put an empty file {package}/__init__.py into the workspace, or rename the "
                "folder"
            )
    return sorted(set(map(Path, modules.values())))


def _code(project: Project) -> tuple[Source, ...]:
    return code_of_modules(project, {module_of(rule): where(project, rule) for rule in project.rules})


def artifacts(project: Project, ours: Sequence[Artifact]) -> list[Artifact]:
    """Return the artifacts of a project, `ours` and those of its own rules, each after its dependencies.

    This executes the code of the rules.

    Raises
    ------
    UsageError
        A rule cannot be executed, or declares an invalid artifact.
    """
    files(project)
    own: list[Artifact] = []
    with _served(_code(project), project.workspace):
        for rule in project.rules:
            own += _of_rule(project, rule)
    names = {artifact.name for artifact in ours}
    for artifact in own:
        if artifact.name in names:
            raise UsageError(f"{artifact.project}: two artifacts have the name {artifact.name!r}")
        names.add(artifact.name)
    shown = _shown(own, project)
    every = [*(_woven(artifact, shown) for artifact in ours), *own]
    for artifact in own:
        for need in artifact.needs():
            if need not in names:
                raise UsageError(
                    f"{_rule_of(project, artifact)}: {artifact.name} reads the output of {need!r}, but there is no "
                    f"such artifact{nearest(need, names)}"
                )
    return _sorted(every, project)


@contextlib.contextmanager
def _served(sources: Sequence[Source], workspace: Path) -> Iterator[None]:
    """Make the modules of `sources` importable within a block, in their current state."""
    forget_modules()
    serve_code(code_of(sources, workspace))
    watching(None)  # files that a rule reads show in what it declares
    try:
        yield
    finally:
        serve_code(None)


def _rule_of(project: Project, artifact: Artifact) -> str:
    return next(rule for rule in project.rules if stage_of(rule) == artifact.stage)


def _of_rule(project: Project, rule: str) -> Iterator[Artifact]:
    at = where(project, rule)
    module = _imported(rule, at)
    version = getattr(module, "VERSION", None)
    if type(version) is not int:
        raise UsageError(f"{at}: {rule}: expected a whole number VERSION, found {version!r}")
    function = getattr(module, "artifacts", None)
    if not callable(function) or len(inspect.signature(function).parameters) != 2:
        raise UsageError(f"{at}: {rule}: expected a function artifacts(project, code) that yields artifacts")
    try:
        made = list(function(project, ""))
    except RvbuildError:
        raise
    except Exception as error:
        raise UsageError(f"{at}: {rule}: artifacts() failed: {_error_text(error, rule, project)}") from error
    for artifact in made:
        if problem := _problem(artifact, project, rule):
            raise UsageError(f"{at}: {rule}: {problem}")
        yield _with_code(project, artifact, at)


def _imported(rule: str, at: str) -> Any:
    try:
        return importlib.import_module(module_of(rule))
    except RvbuildError:
        raise
    except Exception as error:
        raise UsageError(f"{at}: {rule}: importing it failed: {type(error).__name__}: {error}") from error


def _error_text(error: Exception, rule: str, project: Project) -> str:
    """Return the error and the line of the rule where it occurred."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(project.workspace / rule):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


def _problem(artifact: object, project: Project, rule: str) -> str | None:
    """Return what is wrong with a declared artifact, or None."""
    stage = stage_of(rule)
    if not isinstance(artifact, Artifact):
        return f"artifacts() yielded {type(artifact).__name__}; expected Artifact"
    if (artifact.project, artifact.stage) != (project.name, stage):
        found = f"{artifact.project!r}, {artifact.stage!r}"
        return f"{artifact.name}: expected project={project.name!r} and stage={stage!r}, found {found}"
    expected = name(stage, project.name, artifact.scene)
    if artifact.name != expected:
        return f"{artifact.name}: expected the name {expected!r}, as common.name(stage, project, scene) gives it"
    if not REFERENCE.fullmatch(artifact.run):
        return f'{artifact.name}: run: expected "package.module:function", found {artifact.run!r}'
    base = f"cache/{project.name}/{stage}"
    parts = artifact.folder.split("/")
    if (artifact.folder != base and not artifact.folder.startswith(f"{base}/")) or {"", ".", ".."} & set(parts):
        return f"{artifact.name}: folder: expected {base!r} or a folder below it, found {artifact.folder!r}"
    try:
        canonical(artifact.settings)
    except (TypeError, ValueError) as error:
        return f"{artifact.name}: settings: expected values that JSON can hold: {error}"
    if artifact.resource not in list(Resource):
        return f'{artifact.name}: resource: expected "cpu" or "torch", found {artifact.resource!r}'
    for item in artifact.inputs:
        if isinstance(item, Source) and not all(path.is_absolute() for path in item.files):
            return f"{artifact.name}: {item.role}: expected absolute paths, as common.resolve(project, path) gives them"
    return None


def _with_code(project: Project, artifact: Artifact, at: str) -> Artifact:
    """Return an artifact with its code as an input; rvbuild's own code counts by its digest."""
    artifact = replace(artifact, resource=Resource(artifact.resource))  # rules may give the text
    module = artifact.run.partition(":")[0]
    if module.partition(".")[0] == "rvbuild":
        from rvbuild.rules.lock import closure_digest

        return replace(artifact, code=closure_digest((module,), project.task))
    code = tuple(replace(s, role=CODE_ROLE, passed=False) for s in code_of_modules(project, {module: at}))
    return replace(artifact, inputs=(*artifact.inputs, *code))


def _woven(artifact: Artifact, shown: Mapping[str, tuple[str, str]]) -> Artifact:
    """Return an artifact that reads outputs of own stages as products, so that it waits for them.

    `shown` maps absolute paths to the artifact and its output.
    """
    inputs: list[Source | Product] = []
    for item in artifact.inputs:
        made = [shown[path] for path in map(str, item.files) if path in shown] if isinstance(item, Source) else []
        if not made:
            inputs.append(item)
            continue
        if len(made) != len(item.files) or len({maker for maker, _ in made}) != 1:
            raise UsageError(
                f"{artifact.label()}: {item.role}: expected all of its files, or none, to come from one artifact of "
                f"your own stage; found {len(made)} of {len(item.files)}"
            )
        inputs.append(Product(item.role, made[0][0], tuple(output for _, output in made)))
    return replace(artifact, inputs=tuple(inputs))


def _shown(artifacts: Iterable[Artifact], project: Project) -> dict[str, tuple[str, str]]:
    """Map absolute paths to the artifact and its output, for all files that own stages declare by name.

    A variant of a project names the files of the project, and reads those of its own artifacts.
    """
    return {
        str(project.workspace / _of_title(artifact, project).shown(output)): (artifact.name, output)
        for artifact in artifacts
        for output in artifact.writes
        if not set(output) & set("*?[")
    }


def _of_title(artifact: Artifact, project: Project) -> Artifact:
    return replace(artifact, folder=artifact.folder.replace(f"cache/{project.name}/", f"cache/{project.title}/", 1))


def _sorted(every: Sequence[Artifact], project: Project) -> list[Artifact]:
    """Return artifacts in their order, but each after its dependencies."""
    by_name = {artifact.name: artifact for artifact in every}
    try:
        graphlib.TopologicalSorter({artifact.name: artifact.needs() for artifact in every}).prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise UsageError(
            f"{project.where(('project', 'rules'))}: the stages depend on each other in a circle: {circle}"
        ) from None
    placed: dict[str, Artifact] = {}

    def place(artifact: Artifact) -> None:
        if artifact.name not in placed:
            for need in artifact.needs():
                place(by_name[need])
            placed[artifact.name] = artifact

    for artifact in every:
        place(artifact)
    return list(placed.values())
