"""A project: its declarations, its state, and builds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from rvbuild import rules, tasks
from rvbuild.api.evaluation import Evaluation, read_evaluation
from rvbuild.api.runs import BuildError, Reports, Run, remark, run_of
from rvbuild.api.scene import Scene
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.jobs import paths_of, settings_of
from rvbuild.errors import UsageError, nearest
from rvbuild.project.model import ClassDef
from rvbuild.project.model import Project as LoadedProject
from rvbuild.rules import common
from rvbuild.session.build import Order, planned
from rvbuild.session.names import BUILDING
from rvbuild.session.process_context import process_context
from rvbuild.session.projects import load_all
from rvbuild.session.session import Session, may_run_rules, open_session
from rvbuild.session.status import Explanation, explanations, statuses

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from rvbuild.api.chips import ChipDataset
    from rvbuild.api.model import Model

Progress = Callable[[str], None]


def open_project(
    path: str | os.PathLike[str], *, set: Mapping[str, Any] | Sequence[str] = (), trust: bool = False
) -> Project:
    """Open a project file. Its name in the package is `rvbuild.open`.

    Imagery and labels are not read, and no code of the workspace runs.

    Parameters
    ----------
    path : path
        The project file. Its workspace is the directory that contains its `projects/`, or else its own directory.
    set : mapping or sequence of str
        Keys to override, as with `--set`: `{"train.lr": 1e-3}` or `["train.lr=1e-3"]`.
    trust : bool
        Whether you trust the code of the workspace, so that it may run when it is needed. This is stored, as with
        `--trust`.

    Returns
    -------
    Project

    Raises
    ------
    ProjectError
        The file has problems; `problems` holds all of them.

    Examples
    --------
    >>> import rvbuild
    >>> project = rvbuild.open("projects/p.toml", set={"train.epochs": 2})
    >>> project.name, project.task, list(project.scenes)
    ('p', 'semantic_segmentation', ['a', 'b', 'c'])
    """
    items = [f"{key}={_toml(value)}" for key, value in set.items()] if isinstance(set, Mapping) else list(set)
    (project,) = load_all([Path(path)], items)
    return Project(project, trust)


class Project:
    """A project, in the state of its file when it was opened. `rvbuild.open` returns one.

    Attributes
    ----------
    path, workspace : Path
        The project file, and the directory that its paths are relative to and that contains `cache/`.
    name, task : str
    classes : tuple of ClassDef
        The classes by id; each has `id`, `name` and `color`.
    scenes : mapping of str to Scene
        The scenes by id: train, validation, test, each in the order of the file.

    Examples
    --------
    >>> import rvbuild
    >>> project = rvbuild.open("projects/p.toml")
    >>> run = project.build("chip")
    >>> run.ok
    True
    >>> {status.state.value for status in project.status() if status.stage == "chip"}
    {'fresh'}
    >>> project.why("chip:a")[0].causes[0].state.value
    'fresh'
    """

    def __init__(self, project: LoadedProject, trust: bool) -> None:
        self._loaded, self._trust = project, trust
        self.path, self.workspace, self.name, self.task = project.path, project.workspace, project.name, project.task
        self.classes: tuple[ClassDef, ...] = project.classes

    def __repr__(self) -> str:
        return f"<Project {self.name!r} ({self.task}, {len(self._loaded.scenes)} scenes)>"

    @cached_property
    def scenes(self) -> Mapping[str, Scene]:
        """The scenes by id."""
        return MappingProxyType({s.id: Scene(self._loaded, s, self._trust) for s in self._loaded.scenes})

    def status(self) -> list[ArtifactStatus]:
        """Return the state of each artifact, and why it is not fresh.

        No code of the workspace runs, unless you trust it.

        Returns
        -------
        list of ArtifactStatus
            Artifacts come after their dependencies.
        """
        with self._session() as session:
            session.plan.examine(session.artifacts)
            return statuses(session, session.artifacts)

    def why(self, artifact: str) -> list[Explanation]:
        """Return the chain of causes of a state, down to the edited file or key.

        No code of the workspace runs, unless you trust it.

        Parameters
        ----------
        artifact : str
            `STAGE` or `STAGE:SCENE`, for example `eval` or `chip:2_10`.

        Returns
        -------
        list of Explanation
            One for each artifact that `artifact` names.

        Raises
        ------
        UsageError
            There is no such stage or scene.
        """
        with self._session() as session:
            return explanations(session, artifact)

    def build(
        self,
        stage: str = "build",
        *,
        scenes: Sequence[str] = (),
        jobs: int | None = None,
        keep_going: bool = False,
        always_make: bool = False,
        inline: bool = False,
        procs: int | None = None,
        progress: Progress | None = None,
    ) -> Run:
        """Bring a stage and its dependencies up to date, as the command does.

        Code of the workspace runs if it is needed; `RVBUILD_TRUST=no` prevents it.

        Parameters
        ----------
        stage : str
            `analyze`, `chip`, `train`, `predict`, `eval`, `bundle`, `report`, one of the workspace's own stages, or
            `build` for all.
        scenes : sequence of str
            The scenes to build. Default: all.
        jobs : int, optional
            Number of artifacts that are built in parallel. Default: the number of cores.
        keep_going : bool
            Whether to finish all artifacts that do not depend on a failed one.
        always_make : bool
            Whether to build fresh artifacts again.
        inline : bool
            Whether to run stages in this process, one at a time, for debugging.
        procs : int, optional
            Number of processes of a training in shards, at most `train.shards`. Default: as many as there are cores or
            GPUs for, or slots of the cluster.
        progress : callable, optional
            Receives a line for each outcome, for example `progress=print`. By default, notes go to the logger
            `rvbuild`.

        Returns
        -------
        Run
            The result of each artifact.

        Raises
        ------
        BuildError
            A stage failed; `run` holds the results. Finished artifacts are kept.
        ProjectError
            There are problems with files or settings, and nothing was built; `problems` holds all of them.
        UsageError
            There is no such stage or scene, or user code is not allowed to run.
        """
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs: expected a number from 1, found {jobs}")
        if procs is not None and procs < 1:
            raise UsageError(f"procs: expected a number from 1, found {procs}")
        order = Order(stage, tuple(scenes), jobs, keep_going, always_make, inline, self._trust, procs=procs)
        reports = Reports(progress)
        with planned([self._snapshot()], order, reports) as work:
            valid = list(dict.fromkeys([*BUILDING, *(a.stage for a in work.session.artifacts)]))
            if stage not in valid:
                raise UsageError(f"build: no stage {stage!r}{nearest(stage, valid)} (stages: {', '.join(valid)})")
            run = run_of(work.run(reports), self.workspace)
        if not run.ok:
            raise BuildError(run)
        return run

    def dataset(self, split: str = "train") -> ChipDataset:
        """Return the chips of a split as a torch dataset. They must be built: `project.build("chip")`.

        Parameters
        ----------
        split : str
            `train` or `validation`.

        Returns
        -------
        ChipDataset

        Raises
        ------
        UsageError
            There is no such split, chips are not up to date, or their pixels are read by user code and
            you do not trust it.
        DataError
            The scenes' chips differ in bands, dtype, size or classes.
        """
        from rvbuild.api.chips import ChipDataset
        from rvbuild.learn.chips.dataset import Chips
        from rvbuild.learn.hooks import TargetOps
        from rvbuild.stages.train.chips import imagery_of, scenes_of
        from rvbuild.stages.train.settings import Pixels

        if split not in ("train", "validation"):
            raise UsageError(f'dataset: expected "train" or "validation", found {split!r}')
        project = self._snapshot()
        with self._session(project) as session:
            train = self._artifact(session, "train")
            needed = [
                session.plan.artifacts[name] for name in train.needs() if session.plan.artifacts[name].stage == "chip"
            ]
            self._require_fresh(session, needed, "chip")
            inputs, settings = paths_of(session.plan, train), settings_of(train)
        away = [s for s in project.scenes if s.split == split and not common.stores_images(project, s)]
        task = tasks.get(project.task)
        ops = TargetOps(task.unpack, task.orient, task.collate)
        pixels = cast("Pixels", settings.get("pixels", {}))
        context = process_context(
            project, common.images_code(project, away), self._trust, f"the imagery of {split} chips"
        )
        with context():
            chips = Chips(scenes_of(inputs, split), ops, imagery_of(inputs, pixels))
        return ChipDataset(chips, ops, context)

    def dataloader(
        self, split: str = "train", *, batch_size: int | None = None, shuffle: bool | None = None, **options: Any
    ) -> DataLoader[dict[str, Any]]:
        """Return a torch loader of the chips of a split; see `dataset`.

        Parameters
        ----------
        split : str
            `train` or `validation`.
        batch_size : int, optional
            Default: `train.batch_size`.
        shuffle : bool, optional
            Default: True for training chips.
        **options
            Other arguments of `torch.utils.data.DataLoader`, for example `num_workers`.

        Returns
        -------
        torch.utils.data.DataLoader
            Its batches are those of `ChipDataset.collate`.
        """
        from torch.utils.data import DataLoader

        chips = self.dataset(split)
        return DataLoader(
            chips,
            batch_size=self._loaded.train.batch_size if batch_size is None else batch_size,
            shuffle=split == "train" if shuffle is None else shuffle,
            collate_fn=chips.collate,
            **options,
        )

    def evaluation(self) -> Evaluation:
        """Return the evaluation in the workspace. `project.build("eval")` brings it up to date.

        Raises
        ------
        UsageError
            There is none.
        """
        return read_evaluation(self._shown("eval", "eval.json"))

    def model(self, *, device: str = "auto") -> Model:
        """Return the model in the workspace. `project.build("train")` brings it up to date.

        Parameters
        ----------
        device : str
            `auto` (a GPU if there is one), `cpu`, `cuda`, or one GPU such as `cuda:1`.

        Raises
        ------
        UsageError
            There is none, or it needs user code and you do not trust it.
        ModelError
            It cannot be loaded.
        """
        from rvbuild.api.model import Model
        from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS
        from rvbuild.stages.predictor import load_predictor

        weights, description = self._shown("train", WEIGHTS), self._shown("train", DESCRIPTION)
        project = self._snapshot()
        (bundle,) = rules.bundle.artifacts(project, "")
        settings = rules.bundle.settings(project)
        settings["predict"]["device"] = device
        context = process_context(project, tuple(bundle.code_of_users()), self._trust, "the model")
        with context():
            predictor = load_predictor(weights, description, device, trained=rules.infer.trained(project))
        return Model(predictor, settings, context, weights)

    def _snapshot(self) -> LoadedProject:
        """Return a copy of the loaded project without cached results, because files may have changed."""
        return dataclasses.replace(self._loaded)

    @contextlib.contextmanager
    def _session(self, project: LoadedProject | None = None) -> Iterator[Session]:
        """Open a session that builds nothing."""
        may_run = lambda with_rules: may_run_rules(with_rules, self._trust)  # noqa: E731
        with open_session([project or self._snapshot()], notify=remark(None), rules_may_run=may_run) as session:
            yield session

    def _artifact(self, session: Session, stage: str) -> Artifact:
        return next(artifact for artifact in session.artifacts if artifact.stage == stage)

    def _require_fresh(self, session: Session, artifacts: Sequence[Artifact], stage: str) -> None:
        session.plan.examine(session.plan.closure(artifact.name for artifact in artifacts))
        for artifact in artifacts:
            decision = session.plan[artifact.name].decision
            if decision.state is not State.FRESH:
                reasons = "; ".join(map(str, decision.reasons))
                raise UsageError(
                    f"{artifact.label()} is {decision.state.value}{f' ({reasons})' if reasons else ''}: bring it up to "
                    f'date with project.build("{stage}")'
                )

    def _shown(self, stage: str, name: str) -> Path:
        """Return the path of an output in the workspace."""
        path = self.workspace / "cache" / self.name / stage / name
        if not path.is_file():
            raise UsageError(f'{path}: there is no such file yet; project.build("{stage}") makes it')
        return path


def _toml(value: Any) -> str:
    """Return a value as TOML; texts, numbers and lists of them are written like JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, os.PathLike):
        return json.dumps(os.fspath(value))
    return json.dumps(value, ensure_ascii=False)
