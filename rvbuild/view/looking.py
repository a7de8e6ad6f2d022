"""The project that is shown: loaded anew when its file changes, with the state of each artifact."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.errors import ProjectError, RvbuildError, UsageError
from rvbuild.language.user_code import forget_modules
from rvbuild.project.model import Project, Scene
from rvbuild.rules import common
from rvbuild.session.process_context import process_context
from rvbuild.session.projects import load_all
from rvbuild.session.session import may_run_rules, open_session
from rvbuild.session.status import statuses


@dataclass(frozen=True)
class Seen:
    """A project as it was at one moment.

    Attributes
    ----------
    project : Project or None
        None if the file has problems that leave no project.
    problems : tuple of str
        What is wrong with the project file, or with finding out the states.
    notes : tuple of str
        Remarks about the workspace.
    states : tuple of ArtifactStatus
        Of all artifacts.
    code_runs : bool
        Whether Python of the workspace may run to read imagery.
    """

    project: Project | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    states: tuple[ArtifactStatus, ...] = ()
    code_runs: bool = False
    by_name: dict[tuple[str, str | None], ArtifactStatus] = field(default_factory=dict, repr=False)

    def scene(self, scene_id: str) -> Scene:
        """Return a scene.

        Raises
        ------
        UsageError
            There is none of this id.
        """
        scene = next((s for s in self.loaded().scenes if s.id == scene_id), None)
        if scene is None:
            raise UsageError(f"there is no scene {scene_id!r}")
        return scene

    def loaded(self) -> Project:
        """Return the project.

        Raises
        ------
        ProjectError
            Its file has problems.
        """
        if self.project is None:
            raise ProjectError(self.problems)
        return self.project

    def output(self, stage: str, scene: str | None, name: str) -> tuple[Path, State] | None:
        """Return a file that an artifact shows, and the state of the artifact; None if it shows none of this name.

        Only what the records of builds know is shown, wherever the workspace comes from.
        """
        status = self.by_name.get((stage, scene))
        if status is None:
            return None
        workspace = self.loaded().workspace
        path = next((workspace / o for o in status.outputs if o.rpartition("/")[2] == name), None)
        return (path, status.state) if path is not None and path.is_file() else None


class Looking:
    """Keeps what is known of a project up to date; `seen` is replaced as a whole."""

    def __init__(self, path: Path, overrides: Sequence[str] = (), trust: bool = False) -> None:
        self.path, self.overrides, self._trust = path.absolute(), tuple(overrides), trust
        self.seen = Seen()
        self._lock = threading.Lock()
        self._circumstances = ExitStack()
        self._context: object = None
        self.environment = dict(os.environ)
        """The variables of the user, for children: this process has those that stages have."""

    def look(self) -> Seen:
        """Load the project file, find out the states, and return both. What is wrong is in `problems`."""
        with self._lock:
            try:
                (project,) = load_all([self.path], self.overrides)
            except RvbuildError as error:
                problems = error.problems if isinstance(error, ProjectError) else (str(error),)
                # What was shown stays, with what is wrong now.
                before = self.seen
                self.seen = Seen(
                    before.project, problems, before.notes, before.states, before.code_runs, before.by_name
                )
                return self.seen
            notes: list[str] = []
            problems, states = tuple[str, ...](), tuple[ArtifactStatus, ...]()
            code_runs = False
            try:
                code_runs = self._enter(project)
                may_run = lambda own: may_run_rules(own, self._trust)  # noqa: E731
                with open_session([project], notify=notes.append, rules_may_run=may_run) as now:
                    now.plan.examine(now.artifacts)
                    states = tuple(statuses(now, now.artifacts))
            except (RvbuildError, OSError) as error:
                problems = error.problems if isinstance(error, ProjectError) else (str(error),)
            by_name = {(s.stage, s.scene): s for s in states}
            self.seen = Seen(project, tuple(problems), tuple(notes), states, code_runs, by_name)
            return self.seen

    def close(self) -> None:
        """Give this process its own variables again."""
        self._circumstances.close()

    def _enter(self, project: Project) -> bool:
        """Give this process the variables of stages, and the user's code that reads imagery if that may run."""
        code = common.images_code(project, project.scenes)
        runs = not code or may_run_rules([project], self._trust)
        context = process_context(project, code if runs else (), self._trust, "imagery")
        forget_modules()  # they may have been edited
        if context != self._context:  # threads may be reading: what is right stays as it is
            self._circumstances.close()
            self._circumstances.enter_context(context())
            self._context = context
        return runs
