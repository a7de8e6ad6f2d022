"""The computer-vision tasks: one module each, all satisfying `rvbuild.tasks.protocol.Task`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from rvbuild.errors import UsageError, nearest

if TYPE_CHECKING:
    from rvbuild.tasks.protocol import Task

NAMES = ("chip_classification", "object_detection", "semantic_segmentation")


def get(name: str) -> Task:
    """Return the module of a task.

    Raises
    ------
    UsageError
        There is no task of that name.
    """
    if name not in NAMES:
        raise UsageError(f"task: unknown task {name!r}{nearest(name, NAMES)}; the tasks are {', '.join(NAMES)}")
    return cast("Task", importlib.import_module(f"rvbuild.tasks.{name}"))
