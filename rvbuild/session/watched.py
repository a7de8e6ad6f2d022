"""The inputs of a stage while it is watched: which files they are, and which of them were saved."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.errors import RvbuildError
from rvbuild.files.address import is_url
from rvbuild.language.user_files import is_inside
from rvbuild.project.model import Project
from rvbuild.rules import common, own_rules
from rvbuild.rules.inputs import own_code
from rvbuild.session.build import Order, closure_names, scenes_of
from rvbuild.session.projects import load_all, project_paths
from rvbuild.session.session import may_run_rules, open_session
from rvbuild.stages.names import on_request

#: Files count as saved if nothing has changed for the first time, at the latest after the second.
QUIET_MS, _PATIENCE_MS = 200, 3000
#: Delay of the first check for files that were saved during the build.
_FIRST_CHECK_MS = 500


@dataclass(frozen=True)
class Watched:
    """The files that a stage depends on.

    Attributes
    ----------
    files : mapping
        Absolute path -> signature of the file; None if it does not exist.
    folders : frozenset of str
        Directories where a new file may be an input. None of them is in `cache/`, where each inspection writes.
    whole : bool
        Whether the workspace's own rules were included.
    at : int
        The time of the inspection, in ns.
    """

    files: Mapping[str, Signature | None] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    whole: bool = True
    at: int = 0


def inspect(
    order: Order, words: Sequence[str], overrides: Sequence[str], before: Watched, trusted: bool = False
) -> Watched:
    """Return the current inputs of what `order` builds.

    Parameters
    ----------
    order
        What to build, and how.
    words
        The paths of the projects; empty for all projects of the current directory.
    overrides
        Values of keys that replace those of the project files.
    before
        The result of the last inspection, whose files are included while a project is invalid.
    trusted
        Whether the workspace's own rules may run; otherwise they only run if the user has trusted them before.
    """
    files, folders, whole = set[str](), set[str](), True
    if not words:
        folders.add(os.path.abspath("projects"))  # noqa: PTH100

    def may_run(with_rules: Sequence[Project]) -> bool:
        nonlocal whole
        whole = trusted or may_run_rules(with_rules, order.trust)
        return whole

    at, projects = time.time_ns(), list[Project]()
    try:
        paths = project_paths(words)
        files.update(os.path.abspath(path) for path in paths)  # noqa: PTH100 - keeps symbolic links
        projects = load_all(paths, overrides)
        for path in (path for project in projects for path in project.reads if not is_url(path)):
            (folders if Path(path).is_dir() else files).add(path)
        with open_session(
            projects,
            notify=lambda _: None,
            inline=order.inline,
            rules_may_run=may_run,
            requested=on_request(order.stage),
        ) as session:
            names = closure_names(session.artifacts, order.stage, scenes_of(projects, order.scenes))
            for artifact in session.artifacts:
                if artifact.name in names:
                    _add(artifact, files, folders)
            folders |= {folder for project in projects for folder in common.listed(project)}
        if whole:
            files |= {str(path) for project in projects if project.rules for path in own_rules.files(project)}
    except RvbuildError:
        files |= set(before.files)
        folders |= before.folders
        folders |= {str(folder) for project in projects for folder in own_code.looked_in(project)}
    caches = {str(project.workspace / "cache") for project in projects}
    outside = (folder for folder in folders if not any(is_inside(folder, cache) for cache in caches))
    return Watched({path: signature(path) for path in files}, frozenset(outside), whole, at)


def _add(artifact: Artifact, files: set[str], folders: set[str]) -> None:
    """Add the source files of an artifact."""
    for item in artifact.inputs:
        if isinstance(item, Source):
            files.update(str(path) for path in item.files if not is_url(str(path)))
            files.update(str(path) for sidecars in item.sidecars for path in sidecars)
            files.update(str(path) for path, _ in item.ignored_sidecars)
            folders.update(map(str, item.folders))


def wait(
    changes: Callable[..., Any], watched: Watched, inspect_again: Callable[[], Watched], quiet_ms: int = QUIET_MS
) -> list[str]:
    """Return the changed files, and new ones that another inspection finds, as soon as there are any.

    Directories are watched, because many programs save by replacing the file.

    Parameters
    ----------
    changes
        `watchfiles.watch`, or a function like it.
    watched
        The files, as they were.
    inspect_again
        Returns the current inputs.
    quiet_ms
        Files count as saved if nothing has changed for so long.

    Raises
    ------
    KeyboardInterrupt
        A signal has ended the watch.
    """
    while True:
        folders = _existing_folders(watched)
        events = changes(
            *sorted(folders),
            watch_filter=None,
            debounce=_PATIENCE_MS,
            step=quiet_ms,
            rust_timeout=_FIRST_CHECK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        first = True
        with contextlib.closing(events):
            for batch in events:
                if not batch and not first:
                    continue
                if saved := sorted(_changed(watched.files)):
                    return saved
                if first or any(os.path.dirname(path) in folders for _, path in batch):  # noqa: PTH120
                    now = inspect_again()
                    if new := set(now.files) - set(watched.files):
                        # If a project was invalid before, all of its files are new.
                        recent = {path for path in new if (state := now.files[path]) and state.ctime_ns >= watched.at}
                        return sorted(recent or new)
                    watched = replace(watched, folders=now.folders)
                    if _existing_folders(watched) != folders:
                        break  # watch the new directories
                first = False
            else:
                raise KeyboardInterrupt  # stopped by a signal


def _existing_folders(watched: Watched) -> set[str]:
    """Return the directories to watch; a missing one is replaced by its nearest existing parent."""
    files = {os.path.dirname(path) for name in watched.files for path in (name, os.path.realpath(name))}  # noqa: PTH120
    return {_nearest(folder) for folder in files | watched.folders}


def _nearest(folder: str) -> str:
    path = Path(folder)
    return str(next(parent for parent in (path, *path.parents) if parent.is_dir()))


def _changed(files: Mapping[str, Signature | None]) -> Iterator[str]:
    for path, before in files.items():
        if signature(path) != before:
            yield path
