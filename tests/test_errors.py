"""Errors: those for users cross from a worker by their message alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rvbuild.errors
from rvbuild.engine.run.worker import Failed
from rvbuild.engine.run.workers import error_of
from rvbuild.errors import ProjectError, RvbuildError, counted


def kinds(kind: type[RvbuildError] = RvbuildError) -> Iterator[type[RvbuildError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from kinds(subclass)


STAGES = [
    error_class
    for error_class in kinds()
    # Project files are read by the main process alone.
    if error_class.__module__ == rvbuild.errors.__name__ and not issubclass(error_class, ProjectError)
]


@pytest.mark.parametrize("kind", STAGES)
def test_an_error_of_a_worker_arrives_as_it_was(kind: type[RvbuildError]) -> None:
    error = error_of(Failed(f"{kind.__module__}:{kind.__qualname__}", "what happened", ""))
    assert type(error) is kind and str(error) == "what happened"


def test_one_is_not_many() -> None:
    assert [counted(n, "artifact") for n in (0, 1, 2)] == ["0 artifacts", "1 artifact", "2 artifacts"]
