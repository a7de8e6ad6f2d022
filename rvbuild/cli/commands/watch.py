"""`rvbuild watch`: builds whenever an input or the project file is saved."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rvbuild.cli.commands import build as build_command
from rvbuild.cli.commands import review as review_command
from rvbuild.cli.report import moment
from rvbuild.cli.terminal import echo
from rvbuild.engine.keys.signature import signature
from rvbuild.errors import RvbuildError, UsageError
from rvbuild.language.user_code import forget_modules
from rvbuild.session import watched as watching
from rvbuild.session.projects import project_paths
from rvbuild.stages.names import on_request

#: For drafts, whose time counts: a file that is read before it is complete is read again.
_DRAFT_QUIET_MS = 4
_MOST_NAMED = 5


def watch(stage: str, words: Sequence[str], options: build_command.Options) -> int:
    """Bring `stage` up to date now and whenever one of its inputs is saved, until Ctrl-C.

    Raises
    ------
    UsageError
        The package watchfiles is not installed, or the command line is wrong.
    """
    changes = _watcher()
    project_paths(words)
    watched, trusted = watching.Watched(), False

    def inspect() -> watching.Watched:
        return watching.inspect(options.order(stage), words, options.overrides, watched, trusted)

    saved: list[str] = []
    while True:
        if on_request(stage) and saved and not any(path.endswith(".toml") for path in saved):
            # The same files as before count; what is new is found after the build, whose time counts.
            watched = replace(watched, files={path: signature(path) for path in watched.files}, whole=False)
        else:
            watched = inspect()  # before the build, so that files saved during the build are noticed
        if _build(stage, words, options):
            trusted = True
            if on_request(stage) and options.jobs is None:
                # What is left after an edit takes less time than to start workers for it, or to check files.
                options = replace(options, inline=True, checks_after=True)
        if not watched.whole:
            after = inspect()
            watched = replace(after, files={**after.files, **watched.files})
        try:
            echo("watching; press Ctrl-C to stop", err=True)
            quiet_ms = _DRAFT_QUIET_MS if on_request(stage) else watching.QUIET_MS
            saved = watching.wait(changes, watched, inspect, quiet_ms)
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
        if stage == review_command.COMMAND:
            review_command.review(words, options)
        else:
            build_command.build(stage, words, options, None)
    except RvbuildError as error:
        echo(str(error), err=True)
        return False
    finally:
        gc.unfreeze()  # a build freezes its plan
        gc.collect()
    return True


def _from_here(path: str) -> str:
    return os.path.relpath(path) if path.startswith(f"{Path.cwd()}{os.sep}") else path
