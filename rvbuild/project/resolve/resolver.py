"""Resolution of a validated file to a project: names, classes, training and scenes, with all defaults filled in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.files.address import is_url
from rvbuild.project import applied
from rvbuild.project.applied.parts import Parts
from rvbuild.project.model import ClassDef, Project
from rvbuild.project.resolve.packages import PackageFileError, package_file, require_member
from rvbuild.project.resolve.paths import Paths, relative_to_workspace
from rvbuild.project.resolve.scenes import Scenes
from rvbuild.project.scenes.labels import scene_table
from rvbuild.project.schema import ProjectFile
from rvbuild.project.tables.classes import null_color
from rvbuild.project.tables.draft import DraftTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.names import RESERVED_PROJECTS, name_problem
from rvbuild.project.toml.paths import Environment
from rvbuild.project.toml.problems import Problems


class Resolver:
    """Turns a validated file into a project, and reports problems.

    Parameters
    ----------
    file
        The validated file, without its invalid parts.
    data
        The parsed file.
    problems
        The problems so far; more are added.
    environment
        The environment variables.
    reads
        The files read besides the project file, see `Project.reads`.
    """

    def __init__(
        self,
        file: ProjectFile,
        data: dict[str, Any],
        problems: Problems,
        environment: Environment,
        reads: Mapping[str, tuple[int, int, int, int]],
    ) -> None:
        self.file = file
        self.problems = problems
        self.environment = environment
        self.reads = reads
        self.paths = Paths(data, problems, environment)

    def project(self, path: Path, workspace: Path) -> Project | None:
        """Return the project, or None if there are problems."""
        name = self._name(path)
        classes, null_id = self._classes()
        resolved = Scenes(self.file, self.paths, self.problems, workspace, tuple(item.name for item in classes))
        scenes = resolved.resolve()
        if self.file.scene.is_set("chip"):
            self.problems.add(("scene", "chip"), "belongs in [chip]; for one scene, use scenes.by_id.ID.chip")
        sources = {scene.base: resolved.source(scene.base, "labels") for scene in scenes}
        parts = applied.apply(
            self.file.project.task,
            Parts(scenes, self.file.chip, self.file.predict, self.file.eval, self.file.chip.size_px),
            {(*at, "labels"): scene_table(table.labels) for table, at in sources.values()},
            self.problems,
        )
        draft = self._draft()
        self._check_review()
        self._check_windows()
        train = self._train(name, workspace, [item.name for item in classes if item.id != null_id])
        depends = self.paths.expand(self.file.project.depends, ("project",), "depends", None)
        allow = self.paths.expand(self.file.project.allow, ("project",), "allow", None)
        allow = tuple(place if is_url(place) else os.path.join(workspace, place) for place in allow)  # noqa: PTH118
        if self.problems:
            return None
        file, general = self.file, self.file.project
        return Project(
            path=path,
            workspace=workspace,
            name=name,
            task=general.task,
            seed=general.seed,
            null_class=general.null_class,
            strict=general.strict,
            depends=depends,
            rules=general.rules,
            allow=allow,
            data_hint=general.data_hint,
            classes=classes,
            null_id=null_id,
            scenes=parts.scenes,
            chip=parts.chip,
            train=train,
            predict=parts.predict.model_copy(update={"stride_px": parts.predict.stride_px or parts.stride_px}),
            eval=parts.eval,
            draft=draft,
            file=file,
            env=dict(self.environment.read),
            written=self.paths.written,
            reads={**self.reads, **resolved.reads},
            places=self.problems.places,
        )

    def _name(self, path: Path) -> str:
        """Return the name of the project: by default the stem of the file's name."""
        name = self.file.project.name or path.stem
        problem = name_problem(name, RESERVED_PROJECTS)
        if problem and not self.problems.touch("project", "name"):
            self.problems.add(("project", "name"), f"the file's name is not usable: {problem}; set project.name")
        return name

    def _classes(self) -> tuple[tuple[ClassDef, ...], int]:
        """Return the classes by id, with the null class, and the id of the null class."""
        colors = {name: table.color for name, table in self.file.classes.items()}
        null = self.file.project.null_class
        colors.setdefault(null, null_color(set(colors.values())))
        classes = tuple(ClassDef(number, name, color) for number, (name, color) in enumerate(colors.items()))
        return classes, list(colors).index(null)

    def _draft(self) -> DraftTable:
        """Return the settings of drafts with the path of the weights expanded."""
        draft = self.file.draft
        if draft.weights is None:
            return draft
        paths = self.paths.expand((draft.weights,), ("draft",), "weights", None)
        self.paths.written["", "draft"] = self.paths.place((draft.weights,), ("draft",), "weights")
        return draft.model_copy(update={"weights": paths[0]})

    def _check_review(self) -> None:
        """Report a review by the trained model that has no scores of places."""
        if not self.file.review.model or self.problems.touch("predict"):
            return
        spec = SPECS[self.file.project.task]
        if not spec.reviewed:
            message = f"has no effect with task = {spec.name!r}: there are no scores of pixels"
            self.problems.add(("review", "model"), message)
        elif spec.reviewed == spec.score_raster and not self.file.predict.scores:
            self.problems.add(("review", "model"), 'needs the scores of the model; set predict.scores = "uint8"')

    def _check_windows(self) -> None:
        """Report suggested windows that do not divide the blocks of drafts."""
        side, block, cell = self.file.suggest.window_px, self.file.draft.block_px, self.file.draft.stride_px
        if side is None or self.problems.touch("draft") or (block % side == 0 and side % cell == 0):
            return
        sides = [block // parts for parts in range(1, block // cell + 1) if block % (parts * cell) == 0]
        nearest = min(sides, key=lambda each: abs(each - side))
        self.problems.add(
            ("suggest", "window_px"),
            f"expected a part of draft.block_px = {block} in whole cells of {cell} px, such as {nearest}; found {side}",
        )

    def _train(self, name: str, workspace: Path, trained: Sequence[str]) -> TrainTable:
        """Return the training settings with expanded paths and a weight for every class."""
        train, task = self.file.train, SPECS[self.file.project.task]
        update: dict[str, Any] = {
            "model": train.model or task.models[0],
            "select_metric": train.select_metric or task.metrics[0],
        }
        if train.weights is not None:
            (path,), member = self.paths.expand((train.weights,), ("train",), "pretrained", None), train.weights_member
            try:
                if member is None:
                    path = package_file(path) or path
                else:
                    require_member(workspace / path, member)
            except PackageFileError as error:
                self.problems.add(("train", "pretrained"), str(error))
            self.paths.written["", "weights"] = self.paths.place((train.weights,), ("train",), "pretrained")
            update["pretrained"] = path if member is None else f"{path}:{member}"
            if relative_to_workspace(workspace, path).startswith(f"cache/{name}/"):
                message = (
                    "is made from this training itself, so that it would never end; copy the file to another place"
                )
                self.problems.add(("train", "pretrained"), message)
        if train.chips is not None:
            paths = self.paths.expand(train.chips.folder, ("train", "chips"), "folder", None)
            self.paths.written["", "chips"] = self.paths.place(train.chips.folder, ("train", "chips"), "folder")
            update["chips"] = train.chips.model_copy(update={"folder": paths})
        if isinstance(train.class_weights, dict):
            update["class_weights"] = {name: train.class_weights.get(name, 1.0) for name in trained}
        return train.model_copy(update=update)
