"""Checks of the scenes of a project: missing parts, and contradictions between scenes or with [train]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rvbuild.project.model import Scene
from rvbuild.project.scenes.vectors import areas
from rvbuild.project.schema import ProjectFile
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import Key, dotted, show
from rvbuild.project.toml.paths import uses_id
from rvbuild.project.toml.problems import Problems

_PURPOSE = {"train": "training", "validation": "validation"}


def check_scenes(file: ProjectFile, problems: Problems, scenes: list[Scene], keys: list[Key]) -> None:
    """Report the problems of scenes; `keys` has the key of each scene in the file."""
    checks = _Checks(file, problems)
    checks.training()
    checks.images(scenes, keys)
    checks.labels(scenes, keys)
    checks.channels(scenes)
    checks.normalize(scenes)
    checks.distinct(scenes)
    checks.exported()


class _Checks:
    def __init__(self, file: ProjectFile, problems: Problems) -> None:
        self.file = file
        self.problems = problems

    def training(self) -> None:
        if self.file.train.chips is not None:
            if self.file.scenes.training:
                message = "a model learns from scenes or from train.chips, not from both; leave the list empty"
                self.problems.add(("scenes", "train"), message)
            if not self.file.chip.store:
                message = "has no effect on train.chips: only chips of scenes can be read where they are"
                self.problems.add(("chip", "store"), message)
        elif not self.file.scenes.training and not self.problems.touch("scenes", "train"):
            self.problems.add(("scenes", "train"), "no scenes; a model needs at least one to train on")

    def images(self, scenes: list[Scene], places: list[Key]) -> None:
        """Report scenes without an image."""
        lacking = [(scene, key) for scene, key in zip(scenes, places, strict=True) if not scene.image.files]
        self._report_lacking(
            "image", 'image = "data/{id}.tif"', scenes, [(scene, key, "has no image") for scene, key in lacking]
        )

    def labels(self, scenes: list[Scene], places: list[Key]) -> None:
        """Report scenes that need labels and have none."""
        lacking = [
            (scene, key, f"is for {_PURPOSE[scene.split]}, but has no labels")
            for scene, key in zip(scenes, places, strict=True)
            if scene.labels is None and scene.split in _PURPOSE
        ]
        needing = [scene for scene in scenes if scene.split in _PURPOSE]
        self._report_lacking("labels", 'labels = { raster = "data/{id}_label.tif" }', needing, lacking)

    def _report_lacking(
        self, part: str, example: str, scenes: list[Scene], lacking: list[tuple[Scene, Key, str]]
    ) -> None:
        """Report scenes without a part: once if no scene has it, else one by one."""
        if not lacking or self.problems.touch("scene", part):
            return
        if len(lacking) == len(scenes) and not any(self._overrides(scene.base, part) for scene in scenes):
            self.problems.add(("scene", part), f"missing; expected, for example: {example}")
            return
        for scene, key, message in lacking:
            if not self.problems.touch("scenes", "by_id", scene.base):
                override = dotted(("scenes", "by_id", scene.base, part))
                self.problems.add(key, f"scene {show(scene.base)} {message}; set scene.{part} or {override}")

    def _overrides(self, id_: str, part: str) -> bool:
        """Tell whether a scene overrides a part."""
        return id_ in self.file.scenes.by_id and self.file.scenes.by_id[id_].is_set(part)

    def channels(self, scenes: Iterable[Scene]) -> None:
        """Report scenes whose number of channels differs from that of the first."""
        numbers = {scene.base: len(scene.channels) for scene in scenes if scene.channels}
        for id_, number in numbers.items():
            first = next(iter(numbers))
            if number != numbers[first]:
                key = self._key_of(id_, "channels")
                message = f"scene {show(id_)} has {number} channels, but scene {show(first)} has {numbers[first]}"
                self.problems.add(key, f"{message}; a model takes one number of channels")

    def normalize(self, scenes: Sequence[Scene]) -> None:
        """Report scenes whose last transform normalises differently: a model has one normalisation."""
        first = scenes[0].image.normalize() if scenes else None
        for scene in scenes[1:]:
            if scene.image.table is scenes[0].image.table:
                continue
            settings = scene.image.normalize()
            if settings != first and scene.image.files and scenes[0].image.files:
                key = self._key_of(scene.base, "image")
                names = [
                    show(transform["kind"]) if transform else "no such transform" for transform in (first, settings)
                ]
                if names[0] == names[1]:
                    names[1] += " with other settings"
                message = f"scene {show(scenes[0].base)} has {names[0]} at the end, scene {show(scene.base)} {names[1]}"
                self.problems.add((*key, "transform"), f"{message}; a model normalises all images in one way")
        if first and self.file.train.is_set("max_stds"):
            message = f"has no effect with {show(first['kind'])} in the transform of the images"
            self.problems.add(("train", "max_stds"), message)
        if first and self.file.train.backend is not None:
            message = (
                f"the transform of the images ends with {show(first['kind'])}, which networks of torch apply; a "
                "training backend gets the values before it. Remove the transform, and let the backend do it"
            )
            self.problems.add(("train", "backend"), message)
        if first and self.file.train.normalize == "pretrained" and self.file.train.bundle is not None:
            kind = show(first["kind"])
            message = f"the bundle defines how images are normalised, and so does their transform {kind}"
            self.problems.add(("train", "normalize"), f"{message}; remove one of them")

    def exported(self) -> None:
        """Report models that cannot be exported."""
        train, spec = self.file.train, SPECS[self.file.project.task]
        if not self.file.bundle.onnx:
            return
        if train.backend is not None:
            message = "applies to networks of torch, and a training backend makes this model; remove the key"
            self.problems.add(("bundle", "onnx"), message)
        elif spec.models_have_losses and train.model is not None and ":" in train.model:
            message = f"of models of your own for {spec.name}, none can be exported; remove the key, or name a model"
            self.problems.add(("bundle", "onnx"), message)

    def distinct(self, scenes: Iterable[Scene]) -> None:
        """Report scenes with the same area of the same image, because `{id}` was forgotten."""
        table = self.file.scene
        texts = [table.image.stac or "", *(path for _, path in table.image.paths())] if table.image else []
        texts += [text for area in areas(table.aoi) for text in area.vector]
        shared = [
            scene.base for scene in scenes if not any(self._overrides(scene.base, part) for part in ("image", "aoi"))
        ]
        shared = list(dict.fromkeys(shared))
        if table.image and len(shared) > 1 and not any(uses_id(text) for text in texts):
            listed = ", ".join(show(id_) for id_ in shared[:3]) + (" and more" if len(shared) > 3 else "")
            message = f"without {{id}} in its path, the scenes {listed} are the same image"
            self.problems.add(
                ("scene", "image"), f"{message}; put {{id}} where their files differ, or give each an aoi"
            )

    def _key_of(self, id_: str, field: str) -> Key:
        """Return the key of a field of a scene: the override, or the key of all scenes."""
        return ("scenes", "by_id", id_, field) if self._overrides(id_, field) else ("scene", field)
