"""Work in this process with the environment variables and the user code that a worker would have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvbuild import rules
from rvbuild.engine.keys.artifact import Source
from rvbuild.engine.run.jobs import code_of
from rvbuild.engine.run.worker import set_variables
from rvbuild.errors import UsageError
from rvbuild.language.user_code import Code, serve_code
from rvbuild.process import variables
from rvbuild.project.model import Project
from rvbuild.session.trust import may_inspect


@dataclass(frozen=True)
class ProcessContext:
    """A context for work in this process, which can be pickled.

    Attributes
    ----------
    environment : dict
        Variables to set; None for variables to remove.
    code : Code or None
        The user modules that may be imported.
    """

    environment: dict[str, str | None]
    code: Code | None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Apply the context to a block."""
        before = {name: os.environ.get(name) for name in self.environment}
        set_variables(self.environment)
        if self.code is not None:
            serve_code(self.code)
        try:
            yield
        finally:
            if self.code is not None:
                serve_code(None)
            set_variables(before)


def environment_of(root: Path, projects: Sequence[Project]) -> dict[str, str | None]:
    """Return the environment variables of stages; None for variables that are removed."""
    return {**variables.for_workers(os.environ), **rules.places(root, projects)}


def process_context(project: Project, sources: Sequence[Source], trust: bool, purpose: str) -> ProcessContext:
    """Return the context in which the files of a project are read in this process.

    Parameters
    ----------
    project
        The project.
    sources
        The user code that is needed.
    trust
        Whether the user trusts the code of the workspace.
    purpose
        The operation that needs the code, for the message.

    Raises
    ------
    UsageError
        Code is needed, and the user does not trust the workspace.
    """
    if sources and not may_inspect(project.workspace, trust):
        names = ", ".join(sorted({name for source in sources for name in source.modules}))
        raise UsageError(
            f"{project.path}: {purpose} needs Python of the workspace, {names}, and that code can do all that you can: "
            "if you trust it, open the project with trust=True"
        )
    return ProcessContext(environment_of(project.workspace, [project]), code_of(sources, project.workspace))
