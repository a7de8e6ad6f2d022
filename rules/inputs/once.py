"""Results that are computed once for a project, for thousands of scenes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from rvbuild.project.model import Project

T = TypeVar("T")


def once(project: Project, key: Hashable, make: Callable[[], T]) -> T:
    """Return the result of `make`, called once for each `key` of a project: there may be thousands of scenes.

    Artifacts share the result, so it must not be modified.
    """
    memo = project.memo
    if key not in memo:
        memo[key] = make()
    result: T = memo[key]
    return result
