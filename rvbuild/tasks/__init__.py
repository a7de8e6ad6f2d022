"""The computer-vision tasks: one package each, whose module `task` satisfies `rvbuild.tasks.protocol.Task`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from rvbuild.errors import UsageError, nearest
from rvbuild.project.tasks import NAMES, SPECS

if TYPE_CHECKING:
    from rvbuild.tasks.protocol import Task


def get(name: str) -> Task:
    """Return the module of a task.

    Raises
    ------
    UsageError
        There is no task of that name.
    """
    if name not in NAMES:
        raise UsageError(f"task: unknown task {name!r}{nearest(name, NAMES)}; the tasks are {', '.join(NAMES)}")
    return cast("Task", importlib.import_module(SPECS[name].module))
