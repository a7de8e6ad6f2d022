"""The starter project of `rvbuild new`, with comments."""

from __future__ import annotations

from importlib import resources

from rvbuild.errors import UsageError
from rvbuild.project.tables.general import task_problem
from rvbuild.project.toml.names import RESERVED_PROJECTS, name_problem


def starter(name: str, task: str) -> str:
    """Return the text of a new project file.

    Parameters
    ----------
    name
        The project's name.
    task
        Its task.

    Raises
    ------
    UsageError
        The name cannot be a file name, or the task is not supported.
    """
    problem = name_problem(name, RESERVED_PROJECTS)
    if problem:
        raise UsageError(f"project name: {problem}")
    problem = task_problem(task)
    if problem:
        raise UsageError(f"task: {problem}")
    text = resources.files("rvbuild.project").joinpath(f"starters/{task}.toml").read_text(encoding="utf-8")
    return text.format(name=name, task=task)
