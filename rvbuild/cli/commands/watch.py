"""`rvbuild watch`: builds whenever an input or the project file is saved."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rvbuild.cli.commands import build as build_command
from rvbuild.cli.report import moment
from rvbuild.cli.terminal import echo
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.errors import RvbuildError, UsageError
from rvbuild.files.address import is_url
from rvbuild.language.user_code import forget_modules
from rvbuild.language.user_files import is_inside
from rvbuild.project.model import Project
from rvbuild.rules import common, own_rules
from rvbuild.rules.inputs import own_code
from rvbuild.session.build import closure_names, scenes_of
from rvbuild.session.projects import load_all, project_paths
from rvbuild.session.session import may_run_rules, open_session
from rvbuild.stages.names import on_request

#: Files count as saved if nothing has changed for the first time, at the latest after the second.
_QUIET_MS, _PATIENCE_MS = 200, 3000
#: For drafts, whose time counts: a file that is read before it is complete is read again.
_DRAFT_QUIET_MS = 50
#: Delay of the first check for files that were saved during the build.
_FIRST_CHECK_MS = 500
_MOST_NAMED = 5


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


def watch(stage: str, words: Sequence[str], options: build_command.Options) -> int:
    """Bring `stage` up to date now and whenever one of its inputs is saved, until Ctrl-C.

    Raises
    ------
    UsageError
        The package watchfiles is not installed, or the command line is wrong.
    """
    changes = _watcher()
    project_paths(words)
    watched, trusted = Watched(), False

    def inspect() -> Watched:
        return _inspect(stage, words, options, watched, trusted)

    while True:
        watched = inspect()  # before the build, so that files saved during the build are noticed
        if _build(stage, words, options):
            trusted = True
            if on_request(stage) and options.jobs is None:
                # What is left after an edit takes less time than to start workers for it.
                options = replace(options, inline=True)
        if not watched.whole:
            after = inspect()
            watched = replace(after, files={**after.files, **watched.files})
        try:
            echo("watching; press Ctrl-C to stop", err=True)
            saved = _wait(changes, watched, inspect, _DRAFT_QUIET_MS if on_request(stage) else _QUIET_MS)
        except KeyboardInterrupt:
            echo("watching ended", err=True)
            return 0
        names = ", ".join(_from_here(path) for path in saved[:_MOST_NAMED]) + (
            ", …" if len(saved) > _MOST_NAMED else ""
        )
        echo(f"{moment(time.time())}  saved: {names}", err=True)


def _watcher() -> Callable[..., Any]:
    try:
        import watchfiles
    except ImportError:
        raise UsageError("rvbuild watch needs the package watchfiles: pip install 'rvbuild[watch]'") from None
    return watchfiles.watch


def _build(stage: str, words: Sequence[str], options: build_command.Options) -> bool:
    """Build once and report problems; return whether the build was started."""
    if options.inline:
        # Stages run in this process, which caches imported modules.
        forget_modules()
    try:
        build_command.build(stage, words, options, None)
    except RvbuildError as error:
        echo(str(error), err=True)
        return False
    finally:
        gc.unfreeze()  # a build freezes its plan
        gc.collect()
    return True


def _inspect(
    stage: str, words: Sequence[str], options: build_command.Options, before: Watched, trusted: bool
) -> Watched:
    """Return the current inputs of `stage`; while a project is invalid, including those known `before`.

    Unless `trusted`, the workspace's own rules only run if the user has trusted them before.
    """
    files, folders, whole = {os.path.abspath(path) for path in project_paths(words)}, set[str](), True  # noqa: PTH100 - keeps symbolic links
    if not words:
        folders.add(os.path.abspath("projects"))  # noqa: PTH100

    def may_run(with_rules: Sequence[Project]) -> bool:
        nonlocal whole
        whole = trusted or may_run_rules(with_rules, options.trust)
        return whole

    at, projects = time.time_ns(), list[Project]()
    try:
        projects = load_all(project_paths(words), options.overrides)
        for path in (path for project in projects for path in project.reads if not is_url(path)):
            (folders if Path(path).is_dir() else files).add(path)
        with open_session(
            projects,
            notify=lambda _: None,
            inline=options.inline,
            rules_may_run=may_run,
            requested=on_request(stage),
        ) as session:
            names = closure_names(session.artifacts, stage, scenes_of(projects, options.scenes))
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


def _wait(
    changes: Callable[..., Any], watched: Watched, look: Callable[[], Watched], quiet_ms: int = _QUIET_MS
) -> list[str]:
    """Return changed files, and new ones that `look` finds, as soon as there are any.

    Directories are watched, because many programs save by replacing the file.
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
                    now = look()
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


def _from_here(path: str) -> str:
    return os.path.relpath(path) if path.startswith(f"{Path.cwd()}{os.sep}") else path
