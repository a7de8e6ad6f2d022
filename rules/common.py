"""Shared by the rules: names of artifacts, seeds, and the files that an input consists of."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import xxhash

from rvbuild.engine.keys.artifact import Artifact, ContentDigest, Demand, Product, Resource, Source, canonical
from rvbuild.engine.store.state import State
from rvbuild.errors import UsageError
from rvbuild.files.address import is_url
from rvbuild.files.urls import Url
from rvbuild.geo.dataset_files import RASTER, VECTOR
from rvbuild.geo.gdal import admission
from rvbuild.geo.vector.reading import area_reading, area_tables, label_reading, label_tables, split
from rvbuild.project.model import BoxFileLabels, Project, Scene
from rvbuild.project.tasks import SPECS
from rvbuild.rules.inputs import sidecars
from rvbuild.rules.inputs.companions import Ask, Companions, Question
from rvbuild.rules.inputs.once import once
from rvbuild.rules.inputs.own_code import image_code, images_code, metrics_code, user_code, without_code
from rvbuild.rules.inputs.rasters import rasters
from rvbuild.rules.inputs.sizes import AskSizes, Sizes
from rvbuild.settings.area import AreaSettings, OfArea, SplitBlockSettings
from rvbuild.settings.chip import ChipSettings
from rvbuild.settings.classes import ClassId, ClassName, ClassSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.image import ImageSettings, SceneImageSettings
from rvbuild.settings.labels import BoxReadSettings, LabelSettings, LayeredLabelSettings
from rvbuild.settings.transforms import OfStatisticsStep

if TYPE_CHECKING:
    from rvbuild.geo.dataset_files import DatasetFiles
    from rvbuild.geo.vector.reading import Reading

__all__ = [
    "Artifact",
    "Demand",
    "Product",
    "Project",
    "Resource",
    "Scene",
    "Source",
    "image_code",
    "images_code",
    "metrics_code",
    "once",
    "user_code",
    "without_code",
]


def name(stage: str, project: str, scene: str | None = None) -> str:
    """Return the name of an artifact, which is the name of its doit task."""
    of_project = f"{_quoted(stage)}:{_quoted(project)}"
    return of_project if scene is None else f"{of_project}:{_quoted(scene)}"


@functools.lru_cache(maxsize=1 << 16)
def _quoted(part: str) -> str:
    return quote(part, safe=" !$&'()+,;@~#^`{}")


def folder(project: Project, *parts: str) -> str:
    """Return the directory of outputs of `project`, relative to the workspace."""
    return "/".join(["cache", project.name, *parts])


def seed(project: Project, artifact: str) -> int:
    """Return the seed of an artifact, derived from the project's seed and the artifact's name without the project."""
    return _seed(project.seed, artifact)


def _seed(seed: int, artifact: str) -> int:
    return xxhash.xxh3_64_intdigest(canonical([seed, artifact])) & 0x7FFFFFFF


def classes(project: Project) -> list[ClassSettings]:
    """Return the classes in the form of stage settings."""
    return once(project, "classes", lambda: [{"id": c.id, "name": c.name, "color": c.color} for c in project.classes])


def class_names(project: Project) -> list[ClassName]:
    """Return the classes without colours, so that changing a colour does not train again."""
    return once(project, "class names", lambda: [{"id": c.id, "name": c.name} for c in project.classes])


def class_ids(project: Project) -> list[ClassId]:
    """Return the classes without names and colours, for stages that write neither."""
    return once(project, "class ids", lambda: [{"id": c.id} for c in project.classes])


def image_settings(project: Project, scene: Scene) -> ImageSettings:
    """Return the settings to read the imagery of `scene`."""
    image = scene.image
    if image.stack is not None:
        return image.stage_settings()
    return once(project, ("image", id(image.table)), image.stage_settings)


def label_settings(project: Project, scene: Scene) -> LabelSettings:
    """Return the settings to read the labels of `scene`, which must have labels."""
    labels = scene.labels
    assert labels is not None
    if isinstance(labels, BoxFileLabels) or getattr(labels, "cells", None) is not None:
        return labels.stage_settings()
    make: Callable[[], LabelSettings] = labels.stage_settings
    if parts := getattr(labels, "parts", ()):
        return once(project, ("labels", tuple((count, id(table)) for count, table in parts)), make)
    return once(project, ("labels", id(getattr(labels, "table", None))), make)


def label_classes(project: Project, scene: Scene) -> list[ClassName] | list[ClassSettings]:
    """Return the classes as needed to read labels: with colours only if the files hold colours."""
    settings = label_settings(project, scene)
    if settings["kind"] == "raster" and settings["encoding"] == "rgb":
        return classes(project)
    return class_names(project)


def chip_settings(project: Project, scene: Scene) -> ChipSettings:
    """Return the settings to cut the chips of `scene`."""
    table = scene.chip or project.chip
    return once(project, ("chip", id(table)), table.stage_settings)


def eval_settings(project: Project) -> EvalSettings:
    """Return the settings to compare predictions with labels."""
    return once(project, "eval settings", project.eval.stage_settings)


def stores_images(project: Project, scene: Scene) -> bool:
    """Tell whether the images of the chips of `scene` are stored."""
    return (scene.chip or project.chip).store


def packages(project: Project) -> dict[str, str]:
    """Return the versions of the packages in the project's `strict`.

    Raises
    ------
    UsageError
        One of them is not installed.
    """
    return once(project, "packages", lambda: _packages(project))


def _packages(project: Project) -> dict[str, str]:
    versions = {}
    for package in project.strict:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UsageError(f"{project.path}: project.strict: {package!r} is not an installed package") from None
    return versions


def image(project: Project, scene: Scene) -> Source:
    """Return the imagery of `scene` as an input."""
    return once(project, ("image of", scene.base), lambda: _rasters(project, "image", scene.image.files))


def labels(project: Project, scene: Scene) -> Source | None:
    """Return the labels of `scene` as an input: rasters by their bytes, vectors by their meaning."""
    return once(project, ("labels of", scene.base), lambda: _labels(project, scene))


def _labels(project: Project, scene: Scene) -> Source | None:
    if scene.labels is None:
        return None
    settings = label_settings(project, scene)
    if settings["kind"] == "raster":
        return _rasters(project, "labels", scene.labels.files)
    if settings["kind"] == "layers":
        return _layers(project, "labels", scene.labels.files, settings)
    if settings["kind"] == "vector":
        return _vectors(
            project,
            "labels",
            [(paths, label_reading(table)) for paths, table in label_tables(scene.labels.files, settings)],
        )
    files = tuple(resolve(project, p) for p in scene.labels.files)
    reads: BoxReadSettings = {
        "kind": settings["kind"],
        "image": settings["image"],
        "scene_image": settings["scene_image"],
        "labels": settings["class"] is None,
    }
    content = ContentDigest("rvbuild.geo.vector.box_files:digest", canonical(reads).decode())
    return Source("labels", files, digests=(content,) * len(files))


def aoi(project: Project, scene: Scene) -> Source | None:
    """Return the area of interest of `scene` as an input."""
    return once(project, ("aoi of", scene.base), lambda: _aoi(project, scene)) if scene.aoi else None


def _aoi(project: Project, scene: Scene) -> Source:
    tables = area_tables(scene.aoi, _aoi_parts(scene))
    return _vectors(project, "aoi", [(paths, area_reading(table)) for paths, table in tables])


def _aoi_parts(scene: Scene) -> AreaSettings:
    return {"parts": list(scene.aoi_parts)} if scene.aoi_parts else {}


def area(project: Project, scene: Scene) -> OfArea:
    """Return the settings that limit a scene to a part; empty without blocks and without settings of the area."""
    settings = _aoi_parts(scene)
    if scene.blocks is not None:
        blocks: SplitBlockSettings = {**scene.blocks, "seed": _seed(scene.blocks["seed"], f"split:{scene.base}")}
        settings["blocks"] = blocks
    return {"area": settings} if settings else {}


def predictions(project: Project, scene: Scene) -> Product:
    """Return the evaluated prediction of `scene` as an input."""
    stage, files = SPECS[project.task].predictions()
    return Product("predictions", name(stage, project.name, scene.id), files)


def evaluated(project: Project) -> list[Scene]:
    """Return the scenes whose predictions are compared with labels, by id."""
    scenes = (s for s in project.scenes if s.split in project.eval.splits and s.labels is not None)
    return sorted(scenes, key=lambda s: s.id)


def raw_files(project: Project) -> tuple[str, ...]:
    """Return the outputs of infer from which predict derives all other files."""
    return SPECS[project.task].raw


def scores(project: Project, scene: Scene) -> Product | None:
    """Return the raster of scores of a scene, if infer writes one."""
    raster = SPECS[project.task].score_raster
    if not raster or not once(project, "scores", lambda: project.predict.stage_settings().get("scores")):
        return None
    return Product("scores", name("infer", project.name, scene.id), (raster,))


def present(*sources: Source | Product | None) -> tuple[Source | Product, ...]:
    """Return the inputs that are not None."""
    return tuple(s for s in sources if s is not None)


def normalize(project: Project) -> OfStatisticsStep:
    """Return the setting `normalize` of the transform that needs statistics, if any; all scenes share it."""
    step = project.scenes[0].image.normalize() if project.scenes else None
    return {} if step is None else {"normalize": step}


def resolve(project: Project, path: str) -> Path:
    """Return `path` as an absolute path in the workspace; addresses are unchanged."""
    return _resolve(str(project.workspace), path)


@functools.lru_cache(maxsize=1 << 17)
def _resolve(workspace: str, path: str) -> Path:
    if is_url(path):
        return Url(path)
    folder, _, name = path.rpartition("/")
    if folder.strip("/") and name not in ("", ".", ".."):  # thousands of files share a directory
        return _resolve(workspace, folder) / name
    return Path(os.path.normpath(os.path.join(workspace, path)))  # noqa: PTH118 - for thousands of scenes


def _rasters(project: Project, role: str, paths: tuple[str, ...]) -> Source:
    return rasters(role, tuple(resolve(project, p) for p in paths), _companions(project))


def _vectors(project: Project, role: str, tables: Sequence[tuple[Sequence[str], Reading]]) -> Source:
    """Return the files of vector tables as an input; their digests depend on what is read from them."""
    files = tuple(resolve(project, path) for paths, _ in tables for path in paths)
    companions = _companions(project)
    sorted_out = [sidecars.sort(companions.of_vector(f)) for f in files]
    sidecar_files = tuple(counted for counted, _ in sorted_out)
    ignored = tuple(other for _, others in sorted_out for other in others)
    digests: list[ContentDigest | None] = []
    for paths, reading in tables:
        content = ContentDigest("rvbuild.geo.vector.files:digest", canonical(reading).decode())
        digests += [content] * len(paths)
    return Source(role, files, sidecar_files if any(sidecar_files) else (), tuple(digests), ignored_sidecars=ignored)


def _layers(project: Project, role: str, paths: Sequence[str], settings: LayeredLabelSettings) -> Source:
    """Combine rasters and vectors into one input, each digested as it would be alone."""
    sources = [
        _rasters(project, role, tuple(of_part))
        if part["kind"] == "raster"
        else _vectors(project, role, [(of_part, label_reading(part))])
        for of_part, part in split(paths, settings["parts"])
    ]
    return Source(
        role,
        tuple(file for source in sources for file in source.files),
        tuple(files for source in sources for files in source.sidecars or ((),) * len(source.files)),
        tuple(each for source in sources for each in source.digests or (None,) * len(source.files)),
        ignored_sidecars=tuple(path for source in sources for path in source.ignored_sidecars),
    )


def listed(project: Project) -> dict[str, int]:
    """Return the directories that were searched for sidecars of files, with their mtime_ns before the search."""
    return _companions(project).listed()


def places(workspace: Path | None, projects: Iterable[Project]) -> dict[str, str]:
    """Return the environment variables that tell workers where virtual files of the projects may lead."""
    return admission.environment(workspace, (place for project in projects for place in project.allow))


def prepare(
    projects: Sequence[Project], ask: Ask, ask_sizes: AskSizes, state: State, workspace: Path
) -> Callable[[Path], tuple[Path, ...]]:
    """Find the files that belong to the files of projects, by asking GDAL unless the answer is stored in `state`.

    And the sizes of scenes, where a project cuts large ones.

    Returns
    -------
    callable
        Returns the files that belong to one of these files now, count, and did not belong before.
    """
    companions = Companions(ask, state, canonical(places(workspace, projects)).decode("utf-8", "surrogatepass"))
    questions: dict[Question, None] = {}
    for project in projects:
        project.memo[Companions] = companions
        for scene in {scene.base: scene for scene in project.scenes}.values():
            for kind, paths in _inputs(project, scene):
                for path in paths:
                    questions[kind, resolve(project, path)] = None
    companions.learn(questions)
    sizes = Sizes(ask_sizes, state)
    for project in projects:
        project.memo[Sizes] = sizes
        cut = {"train": project.file.analyze.strip_px is not None}
        predicted = project.predict.strip_px is not None or project.eval.strip_px is not None
        sizes.learn(_size_question(project, s) for s in project.scenes if cut.get(s.split, predicted))
    return lambda path: sidecars.sort(companions.appeared(path))[0]


def _inputs(project: Project, scene: Scene) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the files of a scene that may have sidecars, with the settings to read them."""
    yield RASTER, scene.image.files
    if scene.aoi:
        yield VECTOR, scene.aoi
    if scene.labels is None:
        return
    settings = label_settings(project, scene)
    if settings["kind"] == "layers":
        yield from ((part["kind"], paths) for paths, part in split(scene.labels.files, settings["parts"]))
    elif settings["kind"] == "raster" or settings["kind"] == "vector":
        yield settings["kind"], scene.labels.files


def size(project: Project, scene: Scene) -> tuple[int, int] | None:
    """Return the height and the width of `scene` in pixels; None if its image cannot be opened."""
    sizes = project.memo.get(Sizes)
    if sizes is None:
        sizes = project.memo[Sizes] = Sizes(_ask_sizes_here)
    assert isinstance(sizes, Sizes)
    return sizes.of(_size_question(project, scene))


def _size_question(project: Project, scene: Scene) -> tuple[list[str], SceneImageSettings]:
    files = [str(resolve(project, path)) for path in scene.image.files]
    return files, {"image": without_code(image_settings(project, scene)), "channels": scene.channels}


def _ask_sizes_here(questions: Sequence[tuple[Sequence[str], SceneImageSettings]]) -> list[tuple[int, int] | None]:
    from rvbuild.geo.raster.open import sizes

    return sizes(questions)


def _companions(project: Project) -> Companions:
    """Return the finder of files that belong to inputs; it asks GDAL in this process unless `prepare` was called."""
    companions = project.memo.get(Companions)
    if companions is None:
        companions = project.memo[Companions] = Companions(_ask_here)
    assert isinstance(companions, Companions)
    return companions


def _ask_here(questions: Sequence[Question]) -> list[DatasetFiles]:
    from rvbuild.geo.dataset_files import ask

    return ask([(kind, str(path)) for kind, path in questions])
