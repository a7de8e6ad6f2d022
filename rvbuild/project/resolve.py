"""Resolving a validated file: every scene with its own settings, paths expanded, defaults filled in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.files.address import is_url
from rvbuild.project import applied
from rvbuild.project.applied.parts import Parts
from rvbuild.project.model import (
    BoxFileLabels,
    ClassDef,
    ImageSource,
    LayeredLabels,
    Project,
    RasterLabels,
    Scene,
    VectorLabels,
    Written,
)
from rvbuild.project.scenes.box_files import TABLES as BOX_FILES
from rvbuild.project.scenes.box_files import BoxFileTable
from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable, background, joined, speaker
from rvbuild.project.scenes.scene import SceneTable
from rvbuild.project.scenes.splits import Placed, placed
from rvbuild.project.scenes.stac import AssetError, StacError, StacReader, layout
from rvbuild.project.scenes.vectors import areas
from rvbuild.project.schema import ProjectFile
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.classes import null_color
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import Key, dotted, show
from rvbuild.project.toml.names import RESERVED_PROJECTS, name_problem
from rvbuild.project.toml.paths import Environment, PathError, expand, uses_id
from rvbuild.project.toml.problems import Problems

_PURPOSE = {"train": "training", "validation": "validation"}


class Resolver:
    """Turns one validated file into a project, and reports what is wrong on the way.

    Parameters
    ----------
    file
        The validated file, without the parts that are wrong.
    data
        The parsed file, as it was written.
    problems
        What is wrong so far; more is added.
    environment
        Where variables are looked up.
    reads
        What was read beside the file, see `Project.reads`.
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
        self.data = data
        self.problems = problems
        self.environment = environment
        self.reads = reads
        self.stac = StacReader()
        self.workspace = Path()
        self._unreadable: dict[Key, bool] = {}
        self._tables: dict[int, bool] = {}
        self.written: dict[tuple[str, str], tuple[Written, ...]] = {}
        self._placed: dict[tuple[tuple[str, ...], Key, str], tuple[Written, ...]] = {}
        self.class_names: tuple[str, ...] = ()

    def project(self, path: Path, workspace: Path) -> Project | None:
        """Return the project, or None if there are problems."""
        self.workspace = workspace
        name = self._name(path)
        classes, null_id = self._classes()
        self.class_names = tuple(item.name for item in classes)
        scenes = self._scenes()
        if self.file.scene.given("chip"):
            self.problems.add(
                ("scene", "chip"), "belongs in [chip]; scenes.by_id.ID.chip says what one scene differs in"
            )
        sources = {scene.base: self._source(scene.base, "labels") for scene in scenes}
        parts = applied.apply(
            self.file.project.task,
            Parts(scenes, self.file.chip, self.file.predict, self.file.eval, self.file.chip.size_px),
            {(*at, "labels"): speaker(table.labels) for table, at in sources.values()},
            self.problems,
        )
        train = self._train(name, [item.name for item in classes if item.id != null_id])
        depends = self._expand(self.file.project.depends, ("project",), "depends", None)
        allow = self._expand(self.file.project.allow, ("project",), "allow", None)
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
            analyze=file.analyze,
            chip=parts.chip,
            train=train,
            predict=parts.predict.model_copy(update={"stride_px": parts.predict.stride_px or parts.stride_px}),
            eval=parts.eval,
            bundle=file.bundle,
            env=dict(self.environment.read),
            written=self.written,
            reads={**self.reads, **self.stac.reads},
            places=self.problems.places,
        )

    def _name(self, path: Path) -> str:
        """Return the project's name: as given, or the file's stem."""
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

    def _train(self, name: str, trained: Sequence[str]) -> TrainTable:
        """Return the training settings with the path of the weights expanded and every class weighed."""
        train, task = self.file.train, SPECS[self.file.project.task]
        update: dict[str, Any] = {
            "model": train.model or task.models[0],
            "select_metric": train.select_metric or task.metrics[0],
        }
        if train.weights is not None:
            paths = self._expand((train.weights,), ("train",), "pretrained", None)
            self.written["", "weights"] = self._written((train.weights,), ("train",), "pretrained")
            update["pretrained"] = paths[0]
            if relative_to_workspace(self.workspace, paths[0]).startswith(f"cache/{name}/"):
                message = (
                    "is made from this training itself, so that it would never end; copy the file to another place"
                )
                self.problems.add(("train", "pretrained"), message)
        if train.chips is not None:
            paths = self._expand(train.chips.folder, ("train", "chips"), "folder", None)
            self.written["", "chips"] = self._written(train.chips.folder, ("train", "chips"), "folder")
            update["chips"] = train.chips.model_copy(update={"folder": paths})
        if isinstance(train.class_weights, dict):
            update["class_weights"] = {name: train.class_weights.get(name, 1.0) for name in trained}
        return train.model_copy(update=update)

    def _scenes(self) -> tuple[Scene, ...]:
        """Return all scenes, and report what they lack."""
        found = placed(self.file.scenes, self.file.project.seed)
        scenes = [self._scene(item) for item in found]
        # What is wrong with a scene is said once, not for each of its parts.
        once = {item.key: scene for item, scene in reversed([*zip(found, scenes, strict=True)])}
        places, whole = list(reversed(once)), list(reversed(once.values()))
        self._check_there_is_training()
        self._check_images(whole, places)
        self._check_labels(whole, places)
        self._check_channels(whole)
        self._check_normalize(whole)
        self._check_differ(whole)
        return tuple(scenes)

    def _scene(self, item: Placed) -> Scene:
        """Return one scene: what `[scene]` says, where `by_id` says nothing else."""
        id_ = item.base
        image = self._image(id_)
        channels = self._source(id_, "channels")[0].channels
        table, at = self._source(id_, "aoi")
        aoi = self._files(id_, "aoi", tuple(text for area in areas(table.aoi) for text in area.vector), at)
        aoi_parts = [{"files": len(area.vector), **area.stage_settings()} for area in areas(table.aoi)]
        return Scene(
            id=item.id,
            split=item.split,
            image=image,
            channels=channels,
            labels=self._labels(id_, image.files),
            aoi=aoi,
            aoi_parts=tuple(aoi_parts) if any(len(part) > 1 for part in aoi_parts) else (),
            base=id_,
            blocks=item.blocks,
            chip=self._chip(id_),
            key=item.key,
        )

    def _chip(self, id_: str) -> ChipTable | None:
        """Return how the chips of a scene are cut, if it has settings of its own."""
        own = self.file.scenes.by_id.get(id_)
        return None if own is None or own.chip is None else own.chip.laid_over(self.file.chip)

    def _image(self, id_: str) -> ImageSource:
        """Return the imagery of a scene; STAC items are read, because they decide what its files are."""
        table, at = self._source(id_, "image")
        image = table.image
        if image is None or image.stac is None:
            return ImageSource(
                self._files(id_, "image", tuple(p for _, p in image.paths()) if image else (), at), image
            )
        (path,) = self._expand((image.stac,), at, "image", id_)
        key: Key = (*at, "image", "stac")
        # Whatever is wrong with the items of one scene, those of the next are read.
        if self._unreadable.setdefault(key, self.problems.touch(*key)):
            return ImageSource((path,), image)
        try:
            items = self.stac.items(self.workspace, path, image.assets)
        except StacError as error:
            if isinstance(error, AssetError) and image.assets is not None:
                key = (*at, "image", "assets")
            self.problems.add(key, f"{path}: {error}")
            return ImageSource((path,), image)
        files, how = layout(items, {"reduce": image.reduce, "primary": image.primary}, image.layer())
        self.written[id_, "image"] = (Written(self.problems.places.where(key), image.stac),) * len(files)
        return ImageSource(files, image, how)

    def _labels(
        self, id_: str, image: tuple[str, ...]
    ) -> RasterLabels | VectorLabels | LayeredLabels | BoxFileLabels | None:
        """Return the labels of a scene, or None if it has none."""
        table, at = self._source(id_, "labels")
        labels = table.labels
        if isinstance(labels, RasterLabelsTable):
            return RasterLabels(self._files(id_, "labels", labels.raster, at), labels)
        if isinstance(labels, BoxFileTable):
            files = self._files(id_, "labels", labels.paths, at)
            return BoxFileLabels(files, labels, image[0] if image else "", self._origin(id_))
        if isinstance(labels, VectorLabelsTable):
            return VectorLabels(self._files(id_, "labels", labels.vector, at), labels, self.class_names)
        if isinstance(labels, tuple):
            files = self._files(id_, "labels", tuple(text for part in labels for text in part.paths), at)
            vectors = tuple(part for part in labels if isinstance(part, VectorLabelsTable))
            if len(vectors) == len(labels):
                return VectorLabels(
                    files, joined(vectors), self.class_names, tuple((len(part.vector), part) for part in vectors)
                )
            parts = tuple((len(part.paths), part) for part in labels)
            return LayeredLabels(files, parts, background(labels), self.class_names)
        return None

    def _origin(self, id_: str) -> tuple[int, int] | None:
        """Return where a scene begins in its image, for labels that count the pixels of the whole image."""
        table, at = self._source(id_, "image")
        if table.image is None or table.image.bbox_px is None:
            if table.image is not None and table.image.bbox_units is not None:
                message = (
                    'the labels count the pixels of the whole image; say with "bbox_px" which of them are the scene'
                )
                self.problems.add((*at, "image", "bbox_units"), message)
            return None
        return table.image.bbox_px[:2]

    def _source(self, id_: str, field: str) -> tuple[SceneTable, Key]:
        """Return the table that decides a field of a scene, and the key of that table."""
        override = self.file.scenes.by_id.get(id_)
        if override is not None and override.given(field):
            return override, ("scenes", "by_id", id_)
        return self.file.scene, ("scene",)

    def _files(self, id_: str, part: str, texts: tuple[str, ...], at: Key) -> tuple[str, ...]:
        """Return the expanded paths of one part of a scene, and note how they were written."""
        self.written[id_, part] = self._written(texts, at, part)
        return self._expand(texts, at, part, id_)

    def _written(self, texts: tuple[str, ...], at: Key, part: str) -> tuple[Written, ...]:
        """Return where and how some paths were written: the same for all scenes without their own."""
        key = (texts, at, part)
        if key not in self._placed:
            where = self.problems.places.where
            self._placed[key] = tuple(Written(where(self._path_key(at, part, i)), text) for i, text in enumerate(texts))
        return self._placed[key]

    def _expand(self, texts: tuple[str, ...], at: Key, part: str, id_: str | None) -> tuple[str, ...]:
        """Return expanded paths; what is wrong with them is reported."""
        paths = []
        for number, text in enumerate(texts):
            try:
                paths.append(expand(text, self.environment, id_))
            except PathError as error:
                self.problems.add(self._path_key(at, part, number), str(error))
                paths.append(text)
        return tuple(paths)

    def _path_key(self, at: Key, part: str, number: int) -> Key:
        """Return the key of one path, in the form in which the user has written it."""
        key = (*at, part)
        value: Any = self.data
        for step in key:
            value = value[step]
        if isinstance(value, list) and self._holds_tables(value):
            # A list of tables, each with a path or some.
            for position, item in enumerate(value):
                count = _count_of_paths(item)
                if number < count:
                    key, value = (*key, position), item
                    break
                number -= count
        if isinstance(value, dict):
            name = _name_of_paths(value)
            if name is None:
                return key
            key, value = (*key, name), value[name]
        if isinstance(value, list) and self._holds_tables(value):
            keys = _layer_keys(value, key)
            return keys[number] if number < len(keys) else key  # fewer where a layer that is wrong was left out
        return (*key, number) if isinstance(value, list) and len(value) > 1 else key

    def _holds_tables(self, value: list[Any]) -> bool:
        """Tell whether a list of the file has tables in it; it is asked once for each of thousands of paths."""
        if id(value) not in self._tables:
            self._tables[id(value)] = any(isinstance(item, dict) for item in value)
        return self._tables[id(value)]

    def _check_there_is_training(self) -> None:
        if self.file.train.chips is not None:
            if self.file.scenes.training:
                message = "a model learns from scenes or from train.chips, not from both; leave the list empty"
                self.problems.add(("scenes", "train"), message)
            if not self.file.chip.store:
                message = "has no effect on train.chips: only chips of scenes can be read where they are"
                self.problems.add(("chip", "store"), message)
        elif not self.file.scenes.training and not self.problems.touch("scenes", "train"):
            self.problems.add(("scenes", "train"), "no scenes; a model needs at least one to train on")

    def _check_images(self, scenes: list[Scene], places: list[Key]) -> None:
        """Report scenes without an image."""
        lacking = [(scene, at) for scene, at in zip(scenes, places, strict=True) if not scene.image.files]
        self._lacking(
            "image", 'image = "data/{id}.tif"', scenes, [(scene, at, "has no image") for scene, at in lacking]
        )

    def _check_labels(self, scenes: list[Scene], places: list[Key]) -> None:
        """Report scenes that need labels and have none."""
        lacking = [
            (scene, at, f"is for {_PURPOSE[scene.split]}, but has no labels")
            for scene, at in zip(scenes, places, strict=True)
            if scene.labels is None and scene.split in _PURPOSE
        ]
        needing = [scene for scene in scenes if scene.split in _PURPOSE]
        self._lacking("labels", 'labels = { raster = "data/{id}_label.tif" }', needing, lacking)

    def _lacking(self, part: str, example: str, scenes: list[Scene], lacking: list[tuple[Scene, Key, str]]) -> None:
        """Report scenes that lack a part: once if none of them has it, else one by one."""
        if not lacking or self.problems.touch("scene", part):
            return
        if len(lacking) == len(scenes) and not any(self._overrides(scene.base, part) for scene in scenes):
            self.problems.add(("scene", part), f"missing; expected, for example: {example}")
            return
        for scene, at, message in lacking:
            if not self.problems.touch("scenes", "by_id", scene.base):
                own = dotted(("scenes", "by_id", scene.base, part))
                self.problems.add(at, f"scene {show(scene.base)} {message}; set scene.{part} or {own}")

    def _overrides(self, id_: str, part: str) -> bool:
        """Tell whether a scene has a part of its own."""
        return id_ in self.file.scenes.by_id and self.file.scenes.by_id[id_].given(part)

    def _check_channels(self, scenes: Iterable[Scene]) -> None:
        """Report scenes whose number of channels is not that of the others."""
        numbers = {scene.base: len(scene.channels) for scene in scenes if scene.channels}
        for id_, number in numbers.items():
            first = next(iter(numbers))
            if number != numbers[first]:
                key = (*self._source(id_, "channels")[1], "channels")
                message = f"scene {show(id_)} has {number} channels, but scene {show(first)} has {numbers[first]}"
                self.problems.add(key, f"{message}; a model takes one number of channels")

    def _check_normalize(self, scenes: Sequence[Scene]) -> None:
        """Report scenes that end with another transformer of statistics: a model normalises in one way."""
        for scene in scenes[1:]:
            first, how = scenes[0].image.normalize(), scene.image.normalize()
            if how != first and scene.image.files and scenes[0].image.files:
                key = (*self._source(scene.base, "image")[1], "image")
                names = [show(each["kind"]) if each else "no such transform" for each in (first, how)]
                if names[0] == names[1]:
                    names[1] += " with other settings"
                message = f"scene {show(scenes[0].base)} has {names[0]} at the end, scene {show(scene.base)} {names[1]}"
                self.problems.add((*key, "transform"), f"{message}; a model normalises all images in one way")
        how = scenes[0].image.normalize() if scenes else None
        if how and self.file.train.given("max_stds"):
            message = f"has no effect with {show(how['kind'])} in the transform of the images"
            self.problems.add(("train", "max_stds"), message)
        if how and self.file.train.normalize == "pretrained" and self.file.train.bundle is not None:
            message = (
                f"the bundle says how images are normalised, and their transform, {show(how['kind'])}, does so, too"
            )
            self.problems.add(("train", "normalize"), f"{message}; remove one of them")

    def _check_differ(self, scenes: Iterable[Scene]) -> None:
        """Report scenes that are one and the same area of one image, because `{id}` was forgotten."""
        table = self.file.scene
        texts = [table.image.stac or "", *(path for _, path in table.image.paths())] if table.image else []
        texts += [text for area in areas(table.aoi) for text in area.vector]
        same = [
            scene.base for scene in scenes if not any(self._overrides(scene.base, part) for part in ("image", "aoi"))
        ]
        same = list(dict.fromkeys(same))
        if table.image and len(same) > 1 and not any(uses_id(text) for text in texts):
            listed = ", ".join(show(id_) for id_ in same[:3]) + (" and more" if len(same) > 3 else "")
            message = f"without {{id}} in its path, the scenes {listed} are the same image"
            self.problems.add(
                ("scene", "image"), f"{message}; put {{id}} where their files differ, or give each an aoi"
            )


def relative_to_workspace(workspace: Path, path: str) -> str:
    """Return a path from the workspace; one outside begins with `..`."""
    return Path(os.path.relpath(workspace / path, workspace)).as_posix()


def _name_of_paths(table: Mapping[str, Any]) -> str | None:
    """Return the key of a table that holds its path or paths; None in one that lacks them, which was reported."""
    return next((name for name in ("files", "stac", "raster", "vector", *BOX_FILES) if name in table), None)


def _count_of_paths(item: Any) -> int:
    """Return how many paths an item of a list of tables has."""
    if not isinstance(item, dict):
        return 1
    name = _name_of_paths(item)
    if name is None:
        return 0
    return len(item[name]) if isinstance(item[name], list) else 1


def _layer_keys(layers: list[Any], key: Key) -> list[Key]:
    """Return the key of each path of a stack, some of whose layers are tables."""
    keys: list[Key] = []
    for number, layer in enumerate(layers):
        files = layer.get("files") if isinstance(layer, dict) else None
        if isinstance(files, list):
            keys += [(*key, number, "files", n) for n in range(len(files))]
        else:
            keys.append((*key, number, "files") if isinstance(layer, dict) else (*key, number))
    return keys
