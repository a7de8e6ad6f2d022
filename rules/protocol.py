"""The interface of a rule: a module that declares the artifacts of one stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.project.model import Project


class HasCode(Protocol):
    """A module that declares which code its results depend on."""

    __name__: str

    @property
    def CODE(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the module
        """Modules by dotted path, `package.*`, files with a slash, or `{task}` for the module of the task."""


class Rule(HasCode, Protocol):
    """A module with the rule of a stage."""

    @property
    def VERSION(self) -> int:  # noqa: N802 - a constant of the module
        """The version of the stage, part of every key; increased when its outputs change."""

    def artifacts(self, project: Project, code: str) -> Iterable[Artifact]:
        """Return the artifacts of a project.

        Parameters
        ----------
        project : Project
        code : str
            Digest of the code of the stage if it differs from the released one, else empty.
        """
