"""The tasks for plain `doit`: the projects of the current directory, planned and built as `rvbuild` does it."""

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
from rvbuild.engine.run import doit as engine
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.workspace import locked
from rvbuild.errors import RvbuildError
from rvbuild.project.workspaces import every_project
from rvbuild.session.forget import forget
from rvbuild.session.names import stages_of
from rvbuild.session.projects import load_known
from rvbuild.session.session import Session, session


def config() -> dict[str, Any]:
    """Return doit's settings; its database decides nothing, so it lies with the rest of what can be deleted.

    Called before anything else is done: the command `doit` begins anew here where it could not read names of files.
    """
    if Path(sys.argv[0]).name in ("doit", "__main__.py"):
        require_unicode()
    Path("cache").mkdir(exist_ok=True)
    return {"backend": "sqlite3", "dep_file": "cache/doit.db", "verbosity": 0}


@functools.cache
def _session() -> Session:
    try:
        projects = load_known((), (), _say)
    except RvbuildError as error:
        raise InvalidDodoFile(str(error)) from None
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(session(projects, say=_say))


def _say(line: str) -> None:
    echo(line, err=True)


@functools.cache
def _builder() -> Builder:
    now = _session()
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    stack.enter_context(locked(now.workspace.root, _say))
    now.workspace.sweep()
    return Builder(now.plan, now.executor, Plain(True, 0))


def tasks() -> Iterator[dict[str, Any]]:
    """Yield the doit tasks of all projects in `projects/` here."""
    if not every_project(Path.cwd()):
        return
    now = _session()
    records = now.workspace.state.records()
    targets = {
        name: [str(now.workspace.root / output.path) for output in record.outputs.values()]
        for name, record in records.items()
    }
    yield from engine.task_dicts(now.artifacts, _builder, targets, _clean)


def _clean(name: str) -> None:
    _builder()
    stage, _, rest = name.partition(":")
    for part in stages_of(stage):  # of a part that there is not, there is nothing to forget
        forget(_session(), f"{part}:{rest}")
