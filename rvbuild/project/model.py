"""A project as the rest of rvbuild sees it: checked, with every scene and every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rvbuild.project.scenes.box_files import BoxFileTable
from rvbuild.project.scenes.image import ImageTable
from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
from rvbuild.project.scenes.splits import Split
from rvbuild.project.schema import ProjectFile
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.draft import DraftTable
from rvbuild.project.tables.evaluation import EvalTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.problems import Places


@dataclass(frozen=True)
class ClassDef:
    """A class.

    Attributes
    ----------
    id
        Its position among the classes, and its value in label rasters.
    name
        Its name.
    color
        Its colour, as `#rrggbb` in lower case.
    """

    id: int
    name: str
    color: str


@dataclass(frozen=True)
class ImageSource:
    """The imagery of a scene.

    Attributes
    ----------
    files
        The files of the mosaic, or of all layers of a stack, expanded; relative ones are relative to the workspace.
    table
        How they are read; None if the scene has no image, which is an error.
    layout
        How the files of STAC items are put together; empty for other files.
    """

    files: tuple[str, ...]
    table: ImageTable | None
    layout: Mapping[str, Any] = field(default_factory=dict)

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings that decide the pixels that are read, without the paths."""
        return {"nodata": None} if self.table is None else {**self.table.stage_settings(), **self.layout}

    def normalize(self) -> dict[str, Any] | None:
        """Return the settings of the transformer that needs statistics, or None."""
        return None if self.table is None else self.table.normalize()

    def modules(self) -> list[str]:
        """Return the modules of users' transforms."""
        return [] if self.table is None else self.table.modules()


@dataclass(frozen=True)
class RasterLabels:
    """Labels as rasters: the files, expanded, the settings to read them, and their cells, if the task has cells."""

    files: tuple[str, ...]
    table: RasterLabelsTable
    cells: Mapping[str, Any] | None = None

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings, without the paths."""
        return _with_cells(self.table.stage_settings(), self.cells)


@dataclass(frozen=True)
class VectorLabels:
    """Labels as vectors: the files, expanded, the settings to read them, and their cells, if the task has cells.

    Attributes
    ----------
    files
        All files, in the order in which they are read.
    table
        The settings to read them; for several tables, those of the scene.
    classes
        The names of all classes.
    parts
        Of several tables, each with the number of its files.
    cells
        The definition of the cells.
    """

    files: tuple[str, ...]
    table: VectorLabelsTable
    classes: tuple[str, ...]
    parts: tuple[tuple[int, VectorLabelsTable], ...] = ()
    cells: Mapping[str, Any] | None = None

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings, without the paths."""
        if not self.parts:
            return _with_cells(self.table.stage_settings(self.classes), self.cells)
        parts = [{"files": count, **table.stage_settings(self.classes)} for count, table in self.parts]
        for part in parts:
            del part["kind"], part["background"]
        return _with_cells({"kind": "vector", "background": self.table.background, "parts": parts}, self.cells)


@dataclass(frozen=True)
class LayeredLabels:
    """Labels as rasters and vectors laid over each other: the files, expanded, and how they are read.

    Attributes
    ----------
    files
        All files, in the order in which they are laid over each other.
    parts
        Each table with the number of its files.
    background
        The class where no table has a label; None for the null class.
    classes
        The names of all classes.
    """

    files: tuple[str, ...]
    parts: tuple[tuple[int, RasterLabelsTable | VectorLabelsTable], ...]
    background: str | None
    classes: tuple[str, ...]

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings, without the paths."""
        parts = []
        for count, table in self.parts:
            how = table.stage_settings() if isinstance(table, RasterLabelsTable) else table.stage_settings(self.classes)
            how.pop("background", None)
            parts.append({"files": count, **how})
        return {"kind": "layers", "background": self.background, "parts": parts}


@dataclass(frozen=True)
class BoxFileLabels:
    """Labels as box files: the files, expanded, how they are read, and the path of the scene's image file as written.

    With `origin_px`, the scene is a part of the image that begins at this column and row: boxes count from the image's.
    """

    files: tuple[str, ...]
    table: BoxFileTable
    scene_image: str
    origin_px: tuple[int, int] | None = None

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings, without the paths."""
        origin = {} if self.origin_px is None else {"origin_px": list(self.origin_px)}
        return {**self.table.settings(self.scene_image), **origin}


def _with_cells(settings: dict[str, Any], cells: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of labels, with those of cells if the task has cells."""
    return settings if cells is None else {**settings, "cells": dict(cells)}


@dataclass(frozen=True)
class Scene:
    """One scene, or the part of one that one split has.

    Attributes
    ----------
    id
        Its id, usable as a file name; of a part `a.train`, `a.validation` or `a.test`, where `a` is the scene.
    split
        The split.
    image
        Its imagery.
    channels
        The bands to use, from 0; None for all that are not alpha.
    labels
        Its labels; None only for test scenes.
    aoi
        The files of its area of interest; none for the whole image.
    aoi_parts
        If its tables have settings: each table's number of `files`, `layer` and `where`.
    base
        The id of the scene in the project file.
    blocks
        If the scene is shared by several splits: which of its blocks are this part; see `splits.Placed`.
    chip
        The chip settings of this scene, if they differ from those of the project.
    key
        Where its id stands in the project file.
    """

    id: str
    split: Split
    image: ImageSource
    channels: tuple[int, ...] | None
    labels: RasterLabels | VectorLabels | LayeredLabels | BoxFileLabels | None
    aoi: tuple[str, ...]
    aoi_parts: tuple[Mapping[str, Any], ...]
    base: str
    blocks: Mapping[str, Any] | None
    chip: ChipTable | None = None
    key: Key = ()


class Written(NamedTuple):
    """Where and how the user has written a path.

    Attributes
    ----------
    where
        The place and the key: `projects/potsdam.toml:21: scene.image`.
    text
        The path before expansion.
    """

    where: str
    text: str


@dataclass(frozen=True)
class Project:
    """A project, ready for the rules.

    Attributes
    ----------
    path
        The project file, absolute.
    workspace
        The directory that relative paths start from, absolute.
    name, task, seed, null_class, strict, depends, rules, data_hint
        The `[project]` table.
    allow
        Directories, and beginnings of addresses, to which virtual files may lead; absolute.
    classes
        The classes by id, with the null class.
    null_id
        The id of the null class.
    scenes
        The scenes: train, validation, test, each in the order of the file.
    chip, train, predict, eval, draft
        The tables that a task or the scenes complete; `stage_settings()` returns a stage's settings.
    file
        All validated tables, with defaults: `file.bundle`, for example.
    env
        The environment variables that were read, with their values, or None if unset.
    reads
        What was read beside the project file: path -> (size, mtime_ns, ctime_ns, inode) as it was before; address ->
        digest of what its server said before, or None if it said nothing.
    written
        Scene id in the file (empty for the project) and part (`image`, `labels`, `aoi`, `weights`) → how its paths were
        written.
    places
        Where each key was written.
    memo
        A cache for the rules, so that results are computed once for thousands of scenes.
    """

    path: Path
    workspace: Path
    name: str
    task: str
    seed: int
    null_class: str
    strict: tuple[str, ...]
    depends: tuple[str, ...]
    rules: tuple[str, ...]
    allow: tuple[str, ...]
    data_hint: str | None
    classes: tuple[ClassDef, ...]
    null_id: int
    scenes: tuple[Scene, ...]
    chip: ChipTable
    train: TrainTable
    predict: PredictTable
    eval: EvalTable
    draft: DraftTable
    file: ProjectFile = field(repr=False)
    env: Mapping[str, str | None] = field(repr=False)
    written: Mapping[tuple[str, str], tuple[Written, ...]] = field(repr=False, compare=False)
    reads: Mapping[str, tuple[int, int, int, int] | str | None] = field(repr=False, compare=False)
    places: Places = field(repr=False, compare=False)
    memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def chip_px(self) -> int:
        """The side of a chip, in pixels."""
        return self.chip.size_px

    def where(self, key: Key, scene: str = "") -> str:
        """Return where a key was written, and the key, for example `projects/potsdam.toml:14: chip.size_px`.

        Parameters
        ----------
        key
            The key; one that was not written has the place of the table around it.
        scene
            The id in the file of a scene that may have the key for itself, in `[scenes.by_id]`.
        """
        own: Key = ("scenes", "by_id", scene, *(key[1:] if key[:1] == ("scene",) else key))
        return self.places.where(own if scene and self.places.has(own) else key)
