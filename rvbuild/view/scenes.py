"""A scene of the project as the page sees it: its files opened, and what can be shown of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from rvbuild import tasks
from rvbuild.engine.keys.artifact import canonical
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.plan.decide import State
from rvbuild.errors import UsageError
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.grid import Grid, crs_name
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.project.model import Scene
from rvbuild.project.tasks import SPECS
from rvbuild.rules import common
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings
from rvbuild.tasks.protocol import Labels
from rvbuild.view.looking import Seen
from rvbuild.view.readers import Readers

SCORES, DRAFT, CELLS = "scores.tif", "labels.tif", "cells.json"

LISTED = ("suspects", "suggestions")
"""Stages that list something of all scenes, which is a layer of each."""


@dataclass(frozen=True)
class Shown:
    """A file of results: where it is, and whether it is up to date."""

    path: Path
    state: State


class _Area:
    """An area of interest as something that can be borrowed."""

    def __init__(self, aoi: Aoi | None) -> None:
        self.aoi = aoi

    def __enter__(self) -> _Area:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class ViewedScene:
    """A scene of the project at one moment. Cheap to make: files are opened when they are read."""

    def __init__(self, seen: Seen, scene: Scene, readers: Readers) -> None:
        self.seen, self.scene, self.readers = seen, scene, readers
        self.project = seen.loaded()
        self.task = tasks.get(self.project.task)
        self.classes = common.classes(self.project)
        self.null_id = self.project.null_id

    @cached_property
    def image_settings(self) -> SceneImageSettings:
        """The settings to open the image."""
        return {"image": common.image_settings(self.project, self.scene), "channels": self.scene.channels}

    @cached_property
    def image_version(self) -> str:
        """Changes when the image does, or the user's code that reads it."""
        code = [str(file) for source in common.image_code(self.project, self.scene) for file in source.files]
        return self._version((*self.scene.image.files, *code), self.image_settings)

    @cached_property
    def labels_version(self) -> str | None:
        """Changes when the labels do; None without labels."""
        if self.scene.labels is None:
            return None
        return self._version(self.scene.labels.files, self.label_settings, self.classes, self.image_version)

    @cached_property
    def area_version(self) -> str | None:
        """Changes when the area that counts does; None if all of the scene counts."""
        if not self.scene.aoi and self.scene.blocks is None:
            return None
        return self._version(self.scene.aoi, common.area(self.project, self.scene), self.image_version)

    @cached_property
    def beside(self) -> list[ViewedScene]:
        """The scenes of the same image in the order of the project, this one among them."""
        files, settings = self.scene.image.files, self.image_settings
        others = [ViewedScene(self.seen, each, self.readers) for each in self.project.scenes]
        return [each for each in others if each.scene.image.files == files and each.image_settings == settings]

    @cached_property
    def label_settings(self) -> LabelSettings:
        """The settings to read the labels."""
        return common.label_settings(self.project, self.scene)

    @cached_property
    def prediction(self) -> Shown | None:
        """The file of predictions that evaluation reads."""
        stage, names = SPECS[self.project.task].predictions()
        return self._shown(stage, names[0])

    @cached_property
    def draft(self) -> Shown | None:
        """The map of pixels by the draft model, which parts of a scene share."""
        output = self.seen.output("draft", self.scene.base, DRAFT)
        return None if output is None else Shown(*output)

    def mapped(self, of: str) -> Shown | None:
        """Return the file of predicted pixels of the model, `prediction`, or of the draft, `draft`."""
        return self.draft if of == "draft" else self.prediction

    def evaluated(self, of: str) -> Shown | None:
        """Return the file of the model, `prediction`, or of the draft, `draft`, that evaluation reads."""
        if of == "draft" and self.task.COUNTED == "cells":
            output = self.seen.output("draft", self.scene.base, CELLS)
            return None if output is None else Shown(*output)
        return self.mapped(of)

    @cached_property
    def scores(self) -> Shown | None:
        """The scores of pixels, if they are kept."""
        return self._shown("infer", SCORES) if self.task.COUNTED == "pixels" else None

    def version_of(self, shown: Shown | None) -> str | None:
        """Return what changes when a file of results does, or the colours of classes; None without one."""
        return None if shown is None else self._version((str(shown.path),), self.classes)

    @contextlib.contextmanager
    def image(self) -> Iterator[SceneImage]:
        """Give the open image for a block.

        Raises
        ------
        UsageError
            Python of the workspace reads it, which is not trusted.
        """
        if common.image_code(self.project, self.scene) and not self.seen.code_runs:
            raise UsageError(
                f"the imagery of scene {self.scene.id} is read by Python of the workspace, which can do all that you "
                "can: if you trust it, start `rvbuild view --trust`"
            )
        files = [common.resolve(self.project, path) for path in self.scene.image.files]
        key = ("image", self.scene.id, self.image_version)
        with self.readers.borrow(key, lambda: open_scene_image(files, self.image_settings)) as image:
            yield image

    @contextlib.contextmanager
    def labels(self) -> Iterator[Labels]:
        """Give the open labels for a block."""
        if self.scene.labels is None:
            raise UsageError(f"scene {self.scene.id} has no labels")
        files = [common.resolve(self.project, path) for path in self.scene.labels.files]
        grid = self.grid

        def make() -> Labels:
            return self.task.labels(files, self.label_settings, grid, self.classes, self.null_id)

        with self.readers.borrow_heavy(("labels", self.scene.id, self.labels_version), make) as labels:
            yield labels

    @contextlib.contextmanager
    def area(self) -> Iterator[Aoi | None]:
        """Give the area that counts for a block; None for all of the scene."""
        if self.area_version is None:
            yield None
            return
        files = [common.resolve(self.project, path) for path in self.scene.aoi]
        settings, grid = common.area(self.project, self.scene).get("area"), self.grid

        def make() -> _Area:
            return _Area(open_aoi(files, grid, settings))

        with self.readers.borrow_heavy(("area", self.scene.id, self.area_version), make) as opened:
            yield opened.aoi

    @property
    def grid(self) -> Grid:
        """The pixel grid."""
        with self.image() as image:
            return image.grid

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to show the scene, as JSON data."""
        with self.image() as image:
            grid, bands, dtype = image.grid, list(image.descriptions), str(image.dtype)
        labels, prediction = self.labels_version, self.prediction
        layers: dict[str, Any] = {"image": {"version": self.image_version}}
        if labels is not None:
            layers["labels"] = {"version": labels}
        if prediction is not None:
            layers["prediction"] = _layer(self.version_of(prediction), prediction)
        if self.draft is not None:
            layers["draft"] = _layer(self.version_of(self.draft), self.draft)
        if labels is not None and (errors := self._errors()):
            layers["errors"] = {"of": errors}
        if self.scores is not None:
            layers["scores"] = _layer(self.version_of(self.scores), self.scores)
        if (chips := self._shown("chip", "index.json")) is not None:
            layers["chips"] = _layer(self.version_of(chips), chips)
        if self.area_version is not None:
            layers["area"] = {"version": self.area_version}
        for name in LISTED:
            if (listed := self.seen.output(name, None, f"{name}.json")) is not None:
                layers[name] = _layer(self.version_of(Shown(*listed)), Shown(*listed))
        if len(self.beside) > 1:
            parts = ((each.scene.split, each.area_version) for each in self.beside)
            layers["splits"] = {"version": self._version((), *parts)}
        return {
            "id": self.scene.id,
            "split": self.scene.split,
            "height": grid.height,
            "width": grid.width,
            "transform": list(grid.transform[:6]),
            "crs": None if grid.crs is None else crs_name(grid.crs),
            "geographic": bool(grid.crs is not None and grid.crs.is_geographic),
            "bands": bands,
            "dtype": dtype,
            "images": [Path(path).name for path in self.scene.image.files],
            "labels": [] if self.scene.labels is None else [Path(path).name for path in self.scene.labels.files],
            "layers": layers,
        }

    def _errors(self) -> dict[str, Any]:
        """Return of what there are errors, each with version and state."""
        sources = {"prediction": self.prediction}
        if self.task.COUNTED == "pixels":
            sources["draft"] = self.draft
        versions = [version for version in (self.labels_version, self.area_version) if version]
        return {
            of: _layer("-".join([*versions, str(self.version_of(shown))]), shown)
            for of, shown in sources.items()
            if shown is not None
        }

    def chips(self) -> Shown | None:
        """Return the index of the scene's chips."""
        return self._shown("chip", "index.json")

    def _shown(self, stage: str, name: str) -> Shown | None:
        output = self.seen.output(stage, self.scene.id, name)
        return None if output is None else Shown(*output)

    @cached_property
    def _named(self) -> set[Path]:
        """The files that the project names for the scene: none of them belongs to another."""
        labels = self.scene.labels.files if self.scene.labels else ()
        return {common.resolve(self.project, path) for path in (*self.scene.image.files, *labels, *self.scene.aoi)}

    def _version(self, files: tuple[str, ...], *settings: object) -> str:
        """Return a digest of how files look, with those beside them that may belong to them, and of settings."""
        state = xxhash.xxh3_64(canonical(settings))
        for file in files:
            path = common.resolve(self.project, file)
            beside = set(path.parent.glob(f"{_literal(path.stem)}.*")) if path.parent.is_dir() else set()
            for each in sorted(beside - self._named | {path}):
                state.update(f"{each.name} {signature(each)}".encode("utf-8", "surrogateescape"))
        return str(state.hexdigest())


def _layer(version: str | None, shown: Shown) -> Mapping[str, Any]:
    return {"version": version, "state": shown.state.value}


def _literal(stem: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)
