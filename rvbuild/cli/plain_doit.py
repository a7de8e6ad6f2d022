"""The tasks for plain `doit`: the projects of the current directory, planned and built as by `rvbuild`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile

from rvbuild.cli import require_unicode
from rvbuild.cli.report import Plain
from rvbuild.cli.terminal import echo
from rvbuild.engine.run import doit
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.workspace import locked
from rvbuild.errors import RvbuildError
from rvbuild.project.workspaces import every_project
from rvbuild.session.forget import forget
from rvbuild.session.names import stages_of
from rvbuild.session.projects import load_available
from rvbuild.session.session import Session, open_session


def config() -> dict[str, Any]:
    """Return doit's settings; its database is not used for decisions, so it is in the cache.

    It is called first: the command `doit` restarts here if it could not print file names.
    """
    if Path(sys.argv[0]).name in ("doit", "__main__.py"):
        require_unicode()
    Path("cache").mkdir(exist_ok=True)
    return {"backend": "sqlite3", "dep_file": "cache/doit.db", "verbosity": 0}


@functools.cache
def _session() -> Session:
    try:
        projects = load_available((), (), _notify)
    except RvbuildError as error:
        raise InvalidDodoFile(str(error)) from None
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(open_session(projects, notify=_notify))


def _notify(line: str) -> None:
    echo(line, err=True)


@functools.cache
def _builder() -> Builder:
    session = _session()
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    stack.enter_context(locked(session.workspace.root, _notify))
    session.workspace.sweep()
    return Builder(session.plan, session.executor, Plain(True, 0))


def tasks() -> Iterator[dict[str, Any]]:
    """Yield the doit tasks of all projects in `projects/` here."""
    if not every_project():
        return
    session = _session()
    records = session.workspace.state.records()
    targets = {
        name: [str(session.workspace.root / output.path) for output in record.outputs.values()]
        for name, record in records.items()
    }
    yield from doit.task_dicts(session.artifacts, _builder, targets, _clean)


def _clean(name: str) -> None:
    _builder()
    stage, _, rest = name.partition(":")
    for part in stages_of(stage):  # parts without an artifact are skipped
        forget(_session(), f"{part}:{rest}")
