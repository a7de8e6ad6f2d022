"""A project: what it declares, in which state it is, and building it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rvbuild import rules, tasks
from rvbuild.api.evaluation import Evaluation, read_evaluation
from rvbuild.api.runs import BuildError, Reports, Run, remark, run_of
from rvbuild.api.scene import Scene
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run.inputs import paths_of, settings_of
from rvbuild.errors import UsageError, nearest
from rvbuild.project.model import ClassDef
from rvbuild.project.model import Project as LoadedProject
from rvbuild.rules import common
from rvbuild.session.build import Order, planned
from rvbuild.session.here import here
from rvbuild.session.names import BUILDING
from rvbuild.session.projects import load_all
from rvbuild.session.session import Session, looked_at, session
from rvbuild.session.status import ArtifactStatus, Explanation, explanations, statuses

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from rvbuild.api.chips import ChipDataset
    from rvbuild.api.model import Model

Progress = Callable[[str], None]


def open_project(
    path: str | os.PathLike[str], *, set: Mapping[str, Any] | Sequence[str] = (), trust: bool = False
) -> Project:
    """Open a project file. Its name in the package is `rvbuild.open`.

    Nothing is read of imagery and labels, and no code of the workspace runs.

    Parameters
    ----------
    path : path
        The project file. Its workspace is the directory that holds the `projects/` it lies in, or else its own.
    set : mapping or sequence of str
        Keys that are overridden, as with `--set`: `{"train.lr": 1e-3}` or `["train.lr=1e-3"]`.
    trust : bool
        You trust the code of the workspace: it may run for whatever needs it. This is remembered, as with `--trust`.

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
    """A project, as its file was when it was opened. `rvbuild.open` makes one.

    Attributes
    ----------
    path, workspace : Path
        The project file, and the directory that its paths are relative to and that holds `cache/`.
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
            Each after those that it needs.
        """
        with self._session() as now:
            now.plan.examine(now.artifacts)
            return statuses(now, now.artifacts)

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
            One for each artifact that is meant.

        Raises
        ------
        UsageError
            There is no such stage or scene.
        """
        with self._session() as now:
            return explanations(now, artifact)

    def build(
        self,
        stage: str = "build",
        *,
        scenes: Sequence[str] = (),
        jobs: int | None = None,
        keep_going: bool = False,
        always_make: bool = False,
        inline: bool = False,
        progress: Progress | None = None,
    ) -> Run:
        """Bring a stage up to date, with all that it needs, as the command does.

        Code of the workspace that is needed runs: who builds runs it. `RVBUILD_TRUST=no` refuses it.

        Parameters
        ----------
        stage : str
            `analyze`, `chip`, `train`, `predict`, `eval`, `bundle`, `report`, a stage of the workspace's own, or
            `build` for all.
        scenes : sequence of str
            Only these. Default: all.
        jobs : int, optional
            How many artifacts are built at once. Default: the number of cores.
        keep_going : bool
            After a failure, finish all that does not need it.
        always_make : bool
            Build even what is fresh.
        inline : bool
            Run stages in this process, one at a time: for debugging.
        progress : callable, optional
            Is told what is done, a line each: `progress=print`. Without, remarks go to the logger `rvbuild`.

        Returns
        -------
        Run
            What was done with each artifact.

        Raises
        ------
        BuildError
            A stage failed; `run` holds what was done. What was finished is kept.
        ProjectError
            Something is wrong with files or settings, and nothing was built; `problems` holds all of it.
        UsageError
            There is no such stage or scene, or code may not run.
        """
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs: expected a number from 1, found {jobs}")
        order = Order(stage, tuple(scenes), jobs, keep_going, always_make, inline, self._trust)
        reports = Reports(progress)
        with planned([self._snapshot()], order, reports) as work:
            known = list(dict.fromkeys([*BUILDING, *(a.stage for a in work.now.artifacts)]))
            if stage not in known:
                raise UsageError(f"build: no stage {stage!r}{nearest(stage, known)} (stages: {', '.join(known)})")
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
            There is no such split, chips are not up to date, or their pixels are read by Python of the workspace and
            you do not trust it.
        DataError
            The scenes' chips differ in bands, dtype, size or classes.
        """
        from rvbuild.api.chips import ChipDataset
        from rvbuild.learn.chips.dataset import Chips
        from rvbuild.learn.hooks import TargetOps
        from rvbuild.stages.train.chips import imagery_of, scenes_of

        if split not in ("train", "validation"):
            raise UsageError(f'dataset: expected "train" or "validation", found {split!r}')
        project = self._snapshot()
        with self._session(project) as now:
            train = self._artifact(now, "train")
            needed = [now.plan.artifacts[name] for name in train.needs() if now.plan.artifacts[name].stage == "chip"]
            self._require_fresh(now, needed, "chip")
            inputs, settings = paths_of(now.plan, train), settings_of(train)
        away = [s for s in project.scenes if s.split == split and not common.stores_images(project, s)]
        task = tasks.get(project.task)
        ops = TargetOps(task.unpack, task.orient, task.collate)
        circumstances = here(project, common.images_code(project, away), self._trust, f"the imagery of {split} chips")
        with circumstances():
            chips = Chips(scenes_of(inputs, split), ops, imagery_of(inputs, settings))
        return ChipDataset(chips, ops, circumstances)

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
            Default: of training chips.
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
        """Return the evaluation that the workspace shows. `project.build("eval")` brings it up to date.

        Raises
        ------
        UsageError
            There is none.
        """
        return read_evaluation(self._shown("eval", "eval.json"))

    def model(self, *, device: str = "auto") -> Model:
        """Return the model that the workspace shows. `project.build("train")` brings it up to date.

        Parameters
        ----------
        device : str
            `auto` (a GPU if there is one), `cpu`, `cuda`, or one GPU such as `cuda:1`.

        Raises
        ------
        UsageError
            There is none, or Python of the workspace makes it and you do not trust it.
        ModelError
            It cannot be loaded.
        """
        from rvbuild.api.model import Model
        from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS
        from rvbuild.stages.predictor import load_predictor

        weights, description = self._shown("train", WEIGHTS), self._shown("train", DESCRIPTION)
        project = self._snapshot()
        (bundle,) = rules.bundle.artifacts(project, "")
        settings = {**bundle.settings, "predict": {**bundle.settings["predict"], "device": device}}
        circumstances = here(project, tuple(bundle.code_of_users()), self._trust, "the model")
        with circumstances():
            predictor = load_predictor(weights, description, device, trained=bundle.hints["trained"])
        return Model(predictor, settings, circumstances, weights)

    def _snapshot(self) -> LoadedProject:
        """Return the project as it was loaded, but with nothing worked out of it: files may have changed since."""
        return dataclasses.replace(self._loaded)

    @contextlib.contextmanager
    def _session(self, project: LoadedProject | None = None) -> Iterator[Session]:
        """Open a session that only looks."""
        may_run = lambda own: looked_at(own, self._trust)  # noqa: E731
        with session([project or self._snapshot()], say=remark(None), rules_may_run=may_run) as now:
            yield now

    def _artifact(self, now: Session, stage: str) -> Artifact:
        return next(artifact for artifact in now.artifacts if artifact.stage == stage)

    def _require_fresh(self, now: Session, artifacts: Sequence[Artifact], stage: str) -> None:
        now.plan.examine(now.plan.closure(artifact.name for artifact in artifacts))
        for artifact in artifacts:
            decision = now.plan[artifact.name].decision
            if decision.state is not State.FRESH:
                reasons = "; ".join(map(str, decision.reasons))
                raise UsageError(
                    f"{artifact.label()} is {decision.state.value}{f' ({reasons})' if reasons else ''}: bring it up to "
                    f'date with project.build("{stage}")'
                )

    def _shown(self, stage: str, name: str) -> Path:
        """Return a file that the workspace shows."""
        path = self.workspace / "cache" / self.name / stage / name
        if not path.is_file():
            raise UsageError(f'{path}: there is no such file yet; project.build("{stage}") makes it')
        return path


def _toml(value: Any) -> str:
    """Return a value as TOML, which JSON is for text, numbers and lists of them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, os.PathLike):
        return json.dumps(os.fspath(value))
    return json.dumps(value, ensure_ascii=False)
