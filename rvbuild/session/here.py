"""What is read and computed in this process, with the variables and the user's code that a worker would have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rvbuild.engine.keys.artifact import Source
from rvbuild.engine.run.inputs import code_of
from rvbuild.engine.run.worker import set_variables
from rvbuild.errors import UsageError
from rvbuild.language.user_code import Code, serve_code
from rvbuild.project.model import Project
from rvbuild.session.session import environment_of
from rvbuild.session.trust import may_look


@dataclass(frozen=True)
class Here:
    """The circumstances of work in this process; it can be sent to another one.

    Attributes
    ----------
    environment : dict
        Variables that are set meanwhile; None for those that are removed.
    code : Code or None
        The user's modules that may be imported.
    """

    environment: dict[str, str | None]
    code: Code | None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Set all of it for a block."""
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


def here(project: Project, sources: Sequence[Source], trust: bool, what: str) -> Here:
    """Return the circumstances in which a project's files are read in this process.

    Parameters
    ----------
    project
        The project.
    sources
        The user's code that is needed.
    trust
        The user trusts the code of the workspace.
    what
        What needs the code, for the message.

    Raises
    ------
    UsageError
        Code is needed, and the user does not trust the workspace.
    """
    if sources and not may_look(project.workspace, trust):
        names = ", ".join(sorted({name for source in sources for name in source.modules}))
        raise UsageError(
            f"{project.path}: {what} needs Python of the workspace, {names}, and that code can do all that you can: if "
            "you trust it, open the project with trust=True"
        )
    return Here(environment_of(project.workspace, [project]), code_of(sources, project.workspace))
