"""`rvbuild watch`: build, wait until an input or the project file is saved, build again."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rvbuild.cli.commands import build as building
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
from rvbuild.session.session import looked_at, session
from rvbuild.stages.names import on_request

#: Files are taken as saved when nothing has changed for so long; at the latest after the second.
_QUIET_MS, _PATIENCE_MS = 200, 3000
#: For drafts, whose time counts: a file that is read before it is complete is read again.
_DRAFT_QUIET_MS = 50
#: How soon it is looked for what was saved while a build ran, before watching had begun.
_FIRST_LOOK_MS = 500
_NAMED = 5


@dataclass(frozen=True)
class Watched:
    """What a stage rests on.

    Attributes
    ----------
    files : mapping
        Absolute path -> how the file is, None if it is not there.
    folders : frozenset of str
        Where a new file may be one that the stage rests on. None is in `cache/`, where each look writes.
    whole : bool
        Whether the rules of the workspace's own have been asked, too.
    at : int
        When that was found out, in ns.
    """

    files: Mapping[str, Signature | None] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    whole: bool = True
    at: int = 0


def watch(stage: str, words: Sequence[str], options: building.Options) -> int:
    """Bring `stage` up to date now and whenever something it rests on is saved, until Ctrl-C.

    Raises
    ------
    UsageError
        If the package watchfiles is not installed, or the command line is wrong.
    """
    changes = _watcher()
    project_paths(words)
    watched, trusted = Watched(), False

    def look() -> Watched:
        return _look(stage, words, options, watched, trusted)

    while True:
        watched = look()  # what is saved while the build runs is seen after it
        if _build(stage, words, options):
            trusted = True
            if on_request(stage) and options.jobs is None:
                # What is left after an edit takes less time than to start workers for it.
                options = replace(options, inline=True)
        if not watched.whole:
            after = look()
            watched = replace(after, files={**after.files, **watched.files})
        try:
            echo("watching; press Ctrl-C to stop", err=True)
            saved = _wait(changes, watched, look, _DRAFT_QUIET_MS if on_request(stage) else _QUIET_MS)
        except KeyboardInterrupt:
            echo("watching ended", err=True)
            return 0
        names = ", ".join(_from_here(path) for path in saved[:_NAMED]) + (", …" if len(saved) > _NAMED else "")
        echo(f"{moment(time.time())}  saved: {names}", err=True)


def _watcher() -> Callable[..., Any]:
    try:
        import watchfiles
    except ImportError:
        raise UsageError("rvbuild watch needs the package watchfiles: pip install 'rvbuild[watch]'") from None
    return watchfiles.watch


def _build(stage: str, words: Sequence[str], options: building.Options) -> bool:
    """Build once; what is wrong is said, and waited for to be put right. Return whether it came to building."""
    if options.inline:
        # What else runs in this process: the user's own modules, as they were when they were first imported.
        forget_modules()
    try:
        building.build(stage, words, options, None)
    except RvbuildError as error:
        echo(str(error), err=True)
        return False
    finally:
        gc.unfreeze()  # a build freezes its plan
        gc.collect()
    return True


def _look(stage: str, words: Sequence[str], options: building.Options, before: Watched, trusted: bool) -> Watched:
    """Return what `stage` rests on, as it is now; also what was known `before` while a project is wrong.

    Unless `trusted`, rules of the workspace's own run where the user has said so before.
    """
    files, folders, whole = {os.path.abspath(path) for path in project_paths(words)}, set[str](), True  # noqa: PTH100 - keeps symbolic links
    if not words:
        folders.add(os.path.abspath("projects"))  # noqa: PTH100

    def may_run(own: Sequence[Project]) -> bool:
        nonlocal whole
        whole = trusted or looked_at(own, options.trust)
        return whole

    at, projects = time.time_ns(), list[Project]()
    try:
        projects = load_all(project_paths(words), options.overrides)
        for path in (path for project in projects for path in project.reads if not is_url(path)):
            (folders if Path(path).is_dir() else files).add(path)
        with session(
            projects,
            say=lambda _: None,
            inline=options.inline,
            rules_may_run=may_run,
            requested=on_request(stage),
        ) as now:
            names = closure_names(now.artifacts, stage, scenes_of(projects, options.scenes))
            for artifact in now.artifacts:
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
    """Add what an artifact reads beside what others make."""
    for item in artifact.inputs:
        if isinstance(item, Source):
            files.update(str(path) for path in item.files if not is_url(str(path)))
            files.update(str(path) for beside in item.sidecars for path in beside)
            files.update(str(path) for path, _ in item.ignored_sidecars)
            folders.update(map(str, item.folders))


def _wait(
    changes: Callable[..., Any], watched: Watched, look: Callable[[], Watched], quiet_ms: int = _QUIET_MS
) -> list[str]:
    """Return the files that are no longer as they were, or that `look` finds new, as soon as there are some.

    Directories are watched, because programs save by putting another file in place of the old one.
    """
    while True:
        folders = _there(watched)
        events = changes(
            *sorted(folders),
            watch_filter=None,
            debounce=_PATIENCE_MS,
            step=quiet_ms,
            rust_timeout=_FIRST_LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        first = True
        with contextlib.closing(events):
            for found in events:
                if not found and not first:
                    continue
                if saved := sorted(_changed(watched.files)):
                    return saved
                if first or any(os.path.dirname(path) in folders for _, path in found):  # noqa: PTH120
                    now = look()
                    if new := set(now.files) - set(watched.files):
                        # All are, if a project was wrong before.
                        recent = {path for path in new if (seen := now.files[path]) and seen.ctime_ns >= watched.at}
                        return sorted(recent or new)
                    watched = replace(watched, folders=now.folders)
                    if _there(watched) != folders:
                        break  # to watch these
                first = False
            else:
                raise KeyboardInterrupt  # stopped by a signal


def _there(watched: Watched) -> set[str]:
    """Return the directories to watch: where one is not there, the nearest above it that is."""
    files = {os.path.dirname(path) for name in watched.files for path in (name, os.path.realpath(name))}  # noqa: PTH120
    return {_nearest(folder) for folder in files | watched.folders}


def _nearest(folder: str) -> str:
    path = Path(folder)
    return str(next(one for one in (path, *path.parents) if one.is_dir()))


def _changed(files: Mapping[str, Signature | None]) -> Iterator[str]:
    for path, before in files.items():
        if signature(path) != before:
            yield path


def _from_here(path: str) -> str:
    return os.path.relpath(path) if path.startswith(f"{Path.cwd()}{os.sep}") else path
