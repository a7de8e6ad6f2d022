"""`rvbuild watch`: build, wait until an input or the project file is saved, build again."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.build.artifact import Source
from rvbuild.build.fingerprint import signature
from rvbuild.build.state import Signature
from rvbuild.cli import building
from rvbuild.cli.report import moment
from rvbuild.cli.session import load_all, project_paths, rules
from rvbuild.cli.terminal import echo
from rvbuild.errors import RvbuildError, UsageError
from rvbuild.usercode import forget_modules

#: Files are taken as saved when nothing has changed for so long; at the latest after the second.
_QUIET_MS, _PATIENCE_MS = 200, 3000
#: How soon it is looked for what was saved while a build ran, before watching had begun.
_FIRST_LOOK_MS = 500
_NAMED = 5

Seen = Mapping[str, Signature | None]


def watch(stage: str, words: Sequence[str], options: building.Options) -> int:
    """Bring `stage` up to date now and whenever something it rests on is saved, until Ctrl-C.

    Raises
    ------
    UsageError
        If the package watchfiles is not installed, or the command line is wrong.
    """
    changes = _watcher()
    project_paths(words)
    seen: Seen = {}
    while True:
        seen = _rests_on(stage, words, options, seen)
        _build(stage, words, options)
        try:
            echo("watching; Ctrl-C ends it", err=True)
            saved = _wait(changes, seen)
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


def _build(stage: str, words: Sequence[str], options: building.Options) -> None:
    """Build once; what is wrong is said, and waited for to be put right."""
    if options.inline:
        # What else runs in this process: the user's own modules, as they were when they were first imported.
        forget_modules()
    try:
        building.build(stage, words, options, None)
    except RvbuildError as error:
        echo(str(error), err=True)
    finally:
        gc.unfreeze()  # a build freezes its plan
        gc.collect()


def _rests_on(stage: str, words: Sequence[str], options: building.Options, before: Seen) -> dict[str, Signature | None]:
    """Return every file that `stage` rests on, as it is now; those of `before` while the project file is wrong."""
    paths = {os.path.abspath(path) for path in project_paths(words)}  # noqa: PTH100 - keeps symbolic links
    try:
        projects = load_all(project_paths(words), options.overrides)
        artifacts = [artifact for project in projects for artifact in rules().artifacts(project)]
    except RvbuildError:
        paths.update(before)
    else:
        names = building.closure_names(artifacts, stage, building.scenes_of(projects, options))
        for artifact in artifacts:
            if artifact.name in names:
                for item in artifact.inputs:
                    if isinstance(item, Source):
                        paths.update(map(str, item.files))
                        paths.update(str(path) for beside in item.companions for path in beside)
                        paths.update(str(path) for path, _ in item.unread)
    return {path: signature(path) for path in paths}


def _wait(changes: Callable[..., Any], seen: Seen) -> list[str]:
    """Return the files among `seen` that are no longer as they were, as soon as there are some.

    Directories are watched, because programs save by putting another file in place of the old one.
    """
    folders = {os.path.dirname(path) for name in seen for path in (name, os.path.realpath(name))}  # noqa: PTH120
    watched = changes(
        *sorted(folder for folder in folders if Path(folder).is_dir()),
        watch_filter=None,
        debounce=_PATIENCE_MS,
        step=_QUIET_MS,
        rust_timeout=_FIRST_LOOK_MS,
        yield_on_timeout=True,
        recursive=False,
    )
    first = True
    with contextlib.closing(watched):
        for found in watched:
            if found or first:
                first = False
                saved = sorted(_changed(seen))
                if saved:
                    return saved
    raise KeyboardInterrupt  # stopped by a signal


def _changed(seen: Seen) -> Iterator[str]:
    for path, before in seen.items():
        if signature(path) != before:
            yield path


def _from_here(path: str) -> str:
    return os.path.relpath(path) if path.startswith(f"{Path.cwd()}{os.sep}") else path
