"""A project for the rest of rvbuild: validated, with all scenes and defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.problems import Places
from rvbuild.settings.area import AoiPartSettings, Split, SplitBlockSettings
from rvbuild.settings.image import ImageSettings, StackSettings
from rvbuild.settings.labels import (
    BoxFileSettings,
    CellSettings,
    CellSizeSettings,
    LayeredLabelSettings,
    RasterCellSettings,
    RasterLabelSettings,
    RasterPartSettings,
    VectorCellSettings,
    VectorLabelSettings,
    VectorPartSettings,
    VectorTablesCellSettings,
    VectorTableSettings,
    VectorTablesSettings,
)
from rvbuild.settings.transforms import StatisticsStep

if TYPE_CHECKING:  # tables need pydantic, which prediction with a bundle does without
    from rvbuild.project.scenes.box_files import BoxFileTable
    from rvbuild.project.scenes.image import ImageTable
    from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
    from rvbuild.project.schema import ProjectFile
    from rvbuild.project.tables.chip import ChipTable
    from rvbuild.project.tables.draft import DraftTable
    from rvbuild.project.tables.evaluation import EvalTable
    from rvbuild.project.tables.predict import PredictTable
    from rvbuild.project.tables.train import TrainTable


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
        The files of the mosaic, or of all layers of a stack, expanded; relative paths start from the workspace.
    table
        The settings to read them; None if the scene has no image, which is an error.
    stack
        The settings that combine the files of STAC items; None if they are one mosaic, and for other files.
    """

    files: tuple[str, ...]
    table: ImageTable | None
    stack: StackSettings | None = None

    def stage_settings(self) -> ImageSettings:
        """Return the settings that determine the pixels, without the paths."""
        if self.table is None:
            return {"nodata": None}
        settings = self.table.stage_settings()
        return settings if self.stack is None else {**settings, **self.stack}

    def normalize(self) -> StatisticsStep | None:
        """Return the settings of the transform that needs statistics, or None."""
        return None if self.table is None else self.table.normalize()

    def modules(self) -> list[str]:
        """Return the modules of users' transforms."""
        return [] if self.table is None else self.table.modules()


@dataclass(frozen=True)
class RasterLabels:
    """Labels as rasters: the expanded files, the settings to read them, and the cells if the task has cells."""

    files: tuple[str, ...]
    table: RasterLabelsTable
    cells: CellSizeSettings | None = None

    def stage_settings(self) -> RasterLabelSettings | RasterCellSettings:
        """Return the settings, without the paths."""
        settings: RasterLabelSettings = {"kind": "raster", **self.table.stage_settings()}
        return settings if self.cells is None else {**settings, "cells": self.cells}


@dataclass(frozen=True)
class VectorLabels:
    """Labels as vectors: the expanded files, the settings to read them, and the cells if the task has cells.

    Attributes
    ----------
    files
        All files, in reading order.
    table
        The settings to read them; with several tables, the settings of the scene.
    classes
        The names of all classes.
    parts
        With several tables: each table with the number of its files.
    cells
        The definition of the cells.
    """

    files: tuple[str, ...]
    table: VectorLabelsTable
    classes: tuple[str, ...]
    parts: tuple[tuple[int, VectorLabelsTable], ...] = ()
    cells: CellSettings | None = None

    def stage_settings(
        self,
    ) -> VectorLabelSettings | VectorCellSettings | VectorTablesSettings | VectorTablesCellSettings:
        """Return the settings, without the paths."""
        background = self.table.background
        if not self.parts:
            alone: VectorLabelSettings = {
                "kind": "vector",
                "background": background,
                **self.table.stage_settings(self.classes),
            }
            return alone if self.cells is None else {**alone, "cells": self.cells}
        parts: list[VectorTableSettings] = [
            {"files": count, **table.stage_settings(self.classes)} for count, table in self.parts
        ]
        several: VectorTablesSettings = {"kind": "vector", "background": background, "parts": parts}
        return several if self.cells is None else {**several, "cells": self.cells}


@dataclass(frozen=True)
class LayeredLabels:
    """Labels as rasters and vectors on top of each other: the expanded files and the settings to read them.

    Attributes
    ----------
    files
        All files, from bottom to top.
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

    def stage_settings(self) -> LayeredLabelSettings:
        """Return the settings, without the paths."""
        from rvbuild.project.scenes.labels import RasterLabelsTable

        parts: list[RasterPartSettings | VectorPartSettings] = []
        for count, table in self.parts:
            part: RasterPartSettings | VectorPartSettings
            if isinstance(table, RasterLabelsTable):
                part = {"kind": "raster", "files": count, **table.stage_settings()}
            else:
                part = {"kind": "vector", "files": count, **table.stage_settings(self.classes)}
            parts.append(part)
        return {"kind": "layers", "background": self.background, "parts": parts}


@dataclass(frozen=True)
class BoxFileLabels:
    """Labels as box files: the expanded files, the settings to read them, and the path of the scene's image as written.

    With `origin_px`, the scene is a part of the image that begins at this column and row; boxes are relative to the
    image.
    """

    files: tuple[str, ...]
    table: BoxFileTable
    scene_image: str
    origin_px: tuple[int, int] | None = None

    def stage_settings(self) -> BoxFileSettings:
        """Return the settings, without the paths."""
        settings = self.table.settings(self.scene_image)
        return settings if self.origin_px is None else {**settings, "origin_px": list(self.origin_px)}


AnyLabels: TypeAlias = RasterLabels | VectorLabels | LayeredLabels | BoxFileLabels
"""The labels of a scene."""


@dataclass(frozen=True)
class Scene:
    """A scene, or the part of a scene that belongs to one split.

    Attributes
    ----------
    id
        Its id, usable as a file name; `a.train`, `a.validation` or `a.test` for a part of scene `a`.
    split
        The split.
    image
        Its imagery.
    channels
        The bands to use, from 0; None for all bands except alpha.
    labels
        Its labels; None only for test scenes.
    aoi
        The files of its area of interest; empty for the whole image.
    aoi_parts
        If its tables have settings: the number of `files`, the `layer` and the `where` of each table.
    base
        The id of the scene in the project file.
    blocks
        If the scene is shared by several splits: the blocks of this part; see `splits.Placed`.
    chip
        The chip settings of this scene, if they differ from those of the project.
    key
        The key of its id in the project file.
    """

    id: str
    split: Split
    image: ImageSource
    channels: tuple[int, ...] | None
    labels: AnyLabels | None
    aoi: tuple[str, ...]
    aoi_parts: tuple[AoiPartSettings, ...]
    base: str
    blocks: SplitBlockSettings | None
    chip: ChipTable | None = None
    key: Key = ()


class Written(NamedTuple):
    """A path as written by the user, and its place.

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
        The `[project]` table. A variant of a project, such as a point of a sweep, is named like `potsdam/points/ID`:
        artifacts and folders have this name, and no key does.
    allow
        Directories and URL prefixes that virtual files may refer to; absolute.
    classes
        The classes by id, with the null class.
    null_id
        The id of the null class.
    scenes
        The scenes: train, validation, test, each in the order of the file.
    chip, train, predict, eval, draft
        The tables, completed by the task and the scenes; `stage_settings()` returns the settings of a stage.
    file
        All validated tables, with defaults: `file.bundle`, for example.
    env
        The environment variables that were read, with their values; None for an unset one.
    reads
        The files that were read besides the project file: path -> (size, mtime_ns, ctime_ns, inode) before reading;
        address -> digest of the identity that its server reported before, or None if it reported none.
    written
        Scene id in the file (empty for the project) and part (`image`, `labels`, `aoi`, `weights`) → its paths as
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
    def title(self) -> str:
        """The name of the project, which its variants share."""
        return self.name.partition("/")[0]

    @property
    def chip_px(self) -> int:
        """The side of a chip, in pixels."""
        return self.chip.size_px

    def where(self, key: Key, scene: str = "") -> str:
        """Return where a key was written, and the key, for example `projects/potsdam.toml:14: chip.size_px`.

        Parameters
        ----------
        key
            The key; if it was not written, the place is that of its table.
        scene
            The id in the file of a scene that may override the key in `[scenes.by_id]`.
        """
        override: Key = ("scenes", "by_id", scene, *(key[1:] if key[:1] == ("scene",) else key))
        return self.places.where(override if scene and self.places.has(override) else key)
