"""Loading of a project: reading, overriding, validation, defaults, and a report of all problems at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rvbuild.errors import NoScenesError, ProjectError
from rvbuild.project import applied
from rvbuild.project.messages import translate
from rvbuild.project.model import Project
from rvbuild.project.resolve.resolver import Resolver
from rvbuild.project.scenes import patterns
from rvbuild.project.scenes.labels import scene_table
from rvbuild.project.schema import ProjectFile
from rvbuild.project.tables.classes import check_classes
from rvbuild.project.tasks import NAMES, SPECS
from rvbuild.project.toml import overrides as overriding
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.paths import Environment
from rvbuild.project.toml.problems import Places, Problems
from rvbuild.project.toml.reading import copied, read, shown
from rvbuild.project.toml.table import Context, tables_in
from rvbuild.project.workspaces import find_workspace

_STAND_INS: dict[Key, Any] = {
    ("project",): {"task": NAMES[0]},
    ("project", "task"): NAMES[0],
    ("classes",): {},
    ("scenes",): {},
}
"""Replacements for required values that are missing or wrong, so that the rest can still be checked."""


def load(
    path: Path, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None, option: str = "--set"
) -> Project:
    """Load a project file.

    Parameters
    ----------
    path
        The file.
    overrides
        Keys to override, each as `key.dotted=value`, the value as in TOML or a bare string.
    environ
        The environment variables for paths. Default: those of the process.
    option
        The option that gave the overrides, for messages.

    Raises
    ------
    NoScenesError
        No file matches the patterns of the scenes, and there is no other problem.
    ProjectError
        With all problems of the file, one line each.
    """
    path = Path(path)
    data, lines = read(path)
    places = Places(shown(path), lines)
    refused = _apply(data, overrides, places, option)
    train = data.get("train")
    if isinstance(train, dict) and "chips" in train:
        data.setdefault("scenes", {})  # training on pre-cut chips needs no scenes
    problems = Problems(places)
    environment = Environment(os.environ if environ is None else environ)
    workspace = Path(find_workspace(path))
    reads = patterns.find(data, workspace, environment, problems)
    file = _validate(data, problems)
    _check(file, data, problems)
    resolver = Resolver(file, data, problems, environment, reads)
    project = resolver.project(Path(os.path.abspath(path)), workspace)  # noqa: PTH100 - keeps symbolic links
    if problems.are_missing_scenes() and not refused:
        raise NoScenesError(problems.report())
    if problems or refused or project is None:
        raise ProjectError([*problems.report(), *dict.fromkeys(refused)])
    return project


def _apply(data: dict[str, Any], overrides: Sequence[str], places: Places, option: str) -> list[str]:
    """Apply overrides to a parsed file, and return messages about the invalid ones."""
    refused = []
    for argument in overrides:
        try:
            places.override(overriding.apply(data, overriding.parse(argument, option)))
        except overriding.OverrideError as error:
            refused.append(f"{option} {argument}: {error}")
    return refused


def _validate(data: dict[str, Any], problems: Problems) -> ProjectFile:
    """Return the validated file; invalid parts are reported, removed, and replaced by defaults."""
    remaining = copied(data)
    first = True
    while True:
        try:
            return ProjectFile.model_validate(remaining)
        except ValidationError as error:
            errors = list(translate(error, remaining))
        for key, message in errors:
            if first and message is not None:  # later errors are consequences of the removed parts
                problems.add(key, message)
        removed = _outermost({_removable(remaining, key) for key, _ in errors})
        problems.leave_out(key for key in removed if isinstance(key[-1], int))
        for key in removed:
            _remove(remaining, key)
        first = False


def _removable(data: Any, key: Key) -> Key:
    """Return the key to remove because of an error at `key`: the key itself, or its table if the key is missing."""
    current = data
    for length, step in enumerate(key):
        if isinstance(current, dict) and step not in current and key not in _STAND_INS:
            return key[:length]
        current = current.get(step) if isinstance(current, dict) else current[step]
    return key


def _outermost(keys: Collection[Key]) -> list[Key]:
    """Return the keys that are not inside another; later items of a list come first, so that positions stay valid."""
    all_keys = set(keys)
    outermost = [key for key in keys if not any(key[:length] in all_keys for length in range(len(key)))]
    return sorted(outermost, key=_position, reverse=True)


def _position(key: Key) -> list[tuple[int, str]]:
    """Return a sort key for a key, whose steps are numbers and texts."""
    return [(step, "") if isinstance(step, int) else (-1, step) for step in key]


def _remove(data: Any, key: Key) -> None:
    """Remove the value at `key`, or put its stand-in there."""
    *outer, last = key
    for step in outer:
        data = data[step]
    if key in _STAND_INS:
        data[last] = copied(_STAND_INS[key])
    else:
        del data[last]


def _check(file: ProjectFile, data: dict[str, Any], problems: Problems) -> None:
    """Report problems between tables. Consequences of earlier problems are skipped."""
    classes = data.get("classes")
    names = tuple(classes) if isinstance(classes, dict) else ()
    null = file.project.null_class
    size_known = not problems.touch("chip", "size_px")
    task = file.project.task
    labels = [scene_table(table.labels) for table in (file.scene, *file.scenes.by_id.values())]
    context = Context(
        classes=names,
        null=null,
        has_validation=bool(file.scenes.validation or file.train.chips) or problems.touch("scenes", "validation"),
        chip_px=applied.chip_px(task, file.chip, labels) if size_known else None,
        task=task,
        backend=file.train.backend is not None,
    )
    alone = SPECS[task].one_class_is_enough
    results = [
        (key, finding)
        for key, table in tables_in(file)
        for finding in (*table.check(context), *applied.check(table, context))
    ]
    for id_, table in file.scenes.by_id.items():
        if table.chip is not None:
            # Problems of [chip] itself are reported there.
            own_fields = table.chip.model_fields_set
            merged = table.chip.laid_over(file.chip)
            findings = (*merged.check(context), *applied.check(merged, context))
            results += [(("scenes", "by_id", id_, "chip"), item) for item in findings if item.key[0] in own_fields]
    if isinstance(classes, dict):
        results += [(("classes",), finding) for finding in check_classes(file.classes, names, null, alone=alone)]
    doubtful = [
        (base, item) for base, item in results if any(problems.touch(*base, *key) for key in (item.key, *item.rests_on))
    ]
    for base, item in results:
        if (base, item) not in doubtful:
            problems.add((*base, *item.key), item.message)
