"""Folds: a project trained several times, each time without another part of its labelled ground.

The folds are variants of the project, in `cache/PROJECT/folds/K-FOLD/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.run.outcome import Reporter
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import UsageError
from rvbuild.project.load import load
from rvbuild.project.model import Project
from rvbuild.project.scenes.splits import SplitTable
from rvbuild.rules.common import name
from rvbuild.rules.experiments import folds as rule
from rvbuild.session import trust
from rvbuild.session.build import Order, Planned
from rvbuild.session.experiments.build import Variants
from rvbuild.session.experiments.grid import Keys
from rvbuild.session.experiments.points import Graph, overrides, variant
from rvbuild.session.session import Session, code_of

FOLDS = rule.STAGE
DEFAULT = 5
By = Literal["block", "scene"]


@dataclass(frozen=True)
class Folds:
    """A project and its folds.

    Attributes
    ----------
    project
        The project of the file.
    by
        What a fold takes: blocks of scenes, or whole scenes.
    variants
        The project with each fold for validation.
    soup
        The project trained on all of these scenes, whose weights are replaced by the mean of those of the folds; None
        if nobody asks for it.
    """

    project: Project
    by: By
    variants: tuple[Project, ...]
    soup: Project | None

    def tested(self) -> bool:
        """Tell whether the mean of weights is evaluated: by test scenes, the only ones that no fold has seen."""
        return self.soup is not None and any(s.split == "test" and s.labels is not None for s in self.soup.scenes)


def make(project: Project, count: int | None, by: By | None, *, soup: bool) -> Folds:
    """Return the folds of a project.

    Where the project takes a part of its training scenes for validation, the folds are those of this split; where it
    lists validation scenes, these and the training scenes are split.

    Raises
    ------
    ProjectError
        It cannot be split like this.
    UsageError
        It has no scenes, or no network whose weights have a mean.
    """
    table = project.file.scenes.validation
    if not any(scene.split == "train" for scene in project.scenes):
        raise UsageError(f"{project.title}: folds are parts of scenes.train, and there are no such scenes")
    if soup and project.train.backend is not None:
        raise UsageError(
            f"{project.title}: --soup averages the weights of networks of torch, not of a training backend"
        )
    shared: Keys = {"eval.splits": ["validation"]}
    split: dict[str, Any] = {}
    if isinstance(table, SplitTable):
        count = count or table.folds or DEFAULT
        chosen: By = by or table.by
        if table.seed is not None:
            split["seed"] = table.seed
        if chosen == "block" and table.is_set("block_px"):
            split["block_px"] = table.block_px
    else:
        count = count or DEFAULT
        pool = list(dict.fromkeys(s.base for s in project.scenes if s.split != "test" and s.labels is not None))
        chosen = by or ("scene" if len(pool) >= count else "block")
        shared["scenes.train"] = pool
    variants = [
        _load(
            project,
            f"{count}-{fold}",
            {**shared, "scenes.validation": {"folds": count, "fold": fold, "by": chosen, **split}},
        )
        for fold in range(count)
    ]
    return Folds(project, chosen, tuple(variants), _soup(project, count, shared) if soup else None)


def _soup(project: Project, count: int, shared: Keys) -> Project:
    keys: Keys = {**shared, "scenes.validation": [], "eval.splits": ["test"]}
    if project.train.select == "best":
        keys["train.select"] = "last"
    if project.train.patience:
        keys["train.patience"] = 0
    return _load(project, f"{count}-soup", keys)


def _load(project: Project, id_: str, keys: Keys) -> Project:
    return variant(load(project.path, overrides(keys), option="folds:"), FOLDS, id_)


class FoldGraph:
    """The artifacts of a project, of its folds, and of all folds together."""

    def __init__(self, folds: Folds) -> None:
        self.folds = folds
        every = [*folds.variants, *([folds.soup] if folds.soup is not None else [])]
        self.variants = Variants(folds.project, every, self._with_all)

    def _with_all(self, graph: Graph, workspace: Workspace) -> list[Artifact]:
        project, folds = self.folds.project, self.folds.variants
        code = code_of(rule, project, workspace)
        artifacts = list(graph.artifacts)
        if self.folds.soup is not None:
            artifacts = self._souped(artifacts, graph, code)
        parts: dict[str, list[str]] = {}
        for fold in folds:
            for scene in fold.scenes:
                if scene.split == "validation":
                    parts.setdefault(scene.base, []).append(graph.of(name("infer", fold.name, scene.id)))
        artifacts += [rule.scene_map(project, scene, parts[scene], code) for scene in sorted(parts)]
        evaluations = [graph.of(name("eval", fold.name)) for fold in folds]
        return [*artifacts, rule.summary(project, evaluations, code)]

    def _souped(self, artifacts: Sequence[Artifact], graph: Graph, code: str) -> list[Artifact]:
        """Return artifacts with the training of the soup replaced by the mean of weights, after the trainings."""
        soup = self.folds.soup
        assert soup is not None
        trainings = [graph.of(name("train", fold.name)) for fold in self.folds.variants]
        own = name("train", soup.name)
        return [rule.soup(a, trainings, code) if a.name == own else a for a in artifacts]

    def wanted(self, session: Session) -> list[Artifact]:
        """Return what `rvbuild folds` builds: maps, metrics, and with a soup its bundle and evaluation."""
        project, soup = self.folds.project, self.folds.soup
        wanted = [a for a in session.artifacts if a.stage == rule.STAGE and a.project == project.name]
        if soup is not None:
            stages = ("bundle", "eval") if self.folds.tested() else ("bundle",)
            wanted += [a for a in session.artifacts if a.project == soup.name and a.stage in stages and a.scene is None]
        return wanted

    @contextlib.contextmanager
    def planned(
        self, order: Order, reporter: Reporter, ask: trust.Ask | None = None, dry_run: bool = False
    ) -> Iterator[Planned]:
        """Plan a build of all folds."""
        with self.variants.planned(order, reporter, ask, dry_run, self.wanted) as work:
            yield work
