"""doit: the tasks for `rvbuild` and for plain `doit`, and their execution.

A task has `task_dep` (the artifacts that it reads), `uptodate` (our decision), one action, `targets` (its outputs in
the workspace), `clean`, `title` and `doc`. doit orders and dispatches tasks; this package decides by content whether a
task is up to date.
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.run.execute import Builder


def task_dicts(
    artifacts: Sequence[Artifact],
    builder: Callable[[], Builder],
    targets: Mapping[str, Sequence[str]],
    clean: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Yield a doit task for every artifact, and a group task for every stage of a project that only has scenes.

    Dependencies that are not among the `artifacts` are up to date.

    Parameters
    ----------
    artifacts : sequence of Artifact
    builder : callable
        Returns the builder; only called when a task runs, so that listing tasks opens nothing.
    targets : mapping
        Artifact name -> absolute paths of its outputs.
    clean : callable
        Removes the artifact of the given name and its stored results.
    """
    names = {a.name for a in artifacts}
    for stage in dict.fromkeys(a.stage for a in artifacts):
        yield {"basename": stage, "name": None, "doc": f"{stage}: every project"}
    groups: dict[str, list[str]] = {}
    projects: dict[str, str] = {}
    for artifact in artifacts:
        basename, _, rest = artifact.name.partition(":")
        of = f"scene {artifact.scene} of {artifact.project}" if artifact.scene is not None else artifact.project
        yield {
            "basename": basename,
            "name": rest,
            "task_dep": [need for need in artifact.needs() if need in names],
            "uptodate": [_IsFresh(builder, artifact.name)],
            "actions": [(_perform, [builder, artifact.name])],
            "targets": list(targets.get(artifact.name, ())),
            "clean": [(clean, [artifact.name])],
            "title": _title,
            "doc": f"{artifact.stage}: {of}",
            "io": {"capture": False},
            "verbosity": 0,
        }
        group = f"{basename}:{rest.partition(':')[0]}"
        groups.setdefault(group, []).append(artifact.name)
        projects[group] = artifact.project
    for group, members in groups.items():
        if group not in names:
            basename, _, rest = group.partition(":")
            yield {
                "basename": basename,
                "name": rest,
                "actions": None,
                "task_dep": members,
                "doc": f"{basename}: {projects[group]}",
            }


def _title(task: Any) -> str:
    return str(task.name)


class _IsFresh:
    """Tells doit whether an artifact is up to date."""

    # doit asks for this for every task, and computing it takes as long as the rest of its work.
    __signature__ = inspect.Signature()

    def __init__(self, builder: Callable[[], Builder], name: str) -> None:
        self._builder = builder
        self._name = name

    def __call__(self) -> bool:
        return self._builder().is_fresh(self._name)


def _perform(builder: Callable[[], Builder], name: str) -> Any:
    from doit.exceptions import TaskFailed

    if builder().perform(name):
        return True
    outcome = builder().outcomes.get(name)
    return TaskFailed(outcome.message if outcome else "interrupted")


_perform.__signature__ = inspect.signature(_perform)  # type: ignore[attr-defined] # as in `_IsFresh`


class _Quiet:
    """A silent doit reporter; only records what doit skips."""

    builder: Builder

    def __init__(self, _outstream: Any, _options: Any) -> None:
        self.problems: list[str] = []

    def initialize(self, tasks: Any, selected: Any) -> None:
        pass

    def get_status(self, task: Any) -> None:
        pass

    def execute_task(self, task: Any) -> None:
        pass

    def add_failure(self, task: Any, fail: Any) -> None:
        if task.name in self.builder.plan.artifacts:
            self.builder.skip(task.name, "a dependency failed")

    def add_success(self, task: Any) -> None:
        pass

    def skip_uptodate(self, task: Any) -> None:
        pass

    def skip_ignore(self, task: Any) -> None:
        pass

    def cleanup_error(self, exception: Any) -> None:
        pass

    def runtime_error(self, msg: str) -> None:
        raise RuntimeError(msg)

    def teardown_task(self, task: Any) -> None:
        pass

    def complete_run(self) -> None:
        pass


def run(to_do: Sequence[Artifact], builder: Builder, jobs: int, keep_going: bool) -> None:
    """Let doit bring artifacts up to date; the results are in `builder.outcomes`.

    `to_do` is the result of `Builder.to_do`: doit only sees the work to do and what depends on it, because dispatching
    thousands of tasks that do nothing would take seconds.

    Raises
    ------
    KeyboardInterrupt
        The user interrupted the run; workers must still be stopped by `builder.interrupt`.
    """
    if not to_do:
        return
    from doit.cmd_base import ModuleTaskLoader

    from rvbuild.engine.run.doit_main import Main

    reporter = type("_Reporter", (_Quiet,), {"builder": builder})
    module = {
        "task_artifacts": lambda: task_dicts(to_do, lambda: builder, {}, lambda name: None),
        "DOIT_CONFIG": {"reporter": reporter, "backend": "sqlite3", "dep_file": ":memory:", "verbosity": 0},
    }
    words = ["run", "--continue"] if keep_going else ["run"]
    if jobs > 1:
        words += ["-n", str(jobs), "-P", "thread"]
    complaints = io.StringIO()
    with contextlib.redirect_stderr(complaints):
        status = Main(ModuleTaskLoader(module), config_filenames=()).run(
            [*words, *(artifact.name for artifact in to_do)]
        )
    if status == 3:
        raise RuntimeError(f"doit could not run the tasks: {complaints.getvalue()}")
