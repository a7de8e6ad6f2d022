"""Shared by the rules: names of artifacts, seeds, and the files that an input consists of."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import xxhash

from rvbuild.engine.keys.artifact import Artifact, ContentDigest, Demand, Product, Source, canonical
from rvbuild.engine.store.state import State
from rvbuild.errors import UsageError
from rvbuild.files.address import is_url
from rvbuild.files.urls import Url
from rvbuild.geo.dataset_files import RASTER, VECTOR
from rvbuild.geo.gdal import admission
from rvbuild.geo.vector.reading import parts, reading
from rvbuild.project.model import BoxFileLabels, Project, Scene
from rvbuild.project.scenes.box_files import TABLES as BOX_FILES
from rvbuild.project.tasks import SPECS
from rvbuild.rules.inputs import sidecars
from rvbuild.rules.inputs.companions import Ask, Companions, Question
from rvbuild.rules.inputs.own_code import image_code, images_code, metrics_code, user_code, without_code

__all__ = [
    "Artifact",
    "Demand",
    "Product",
    "Project",
    "Scene",
    "Source",
    "image_code",
    "images_code",
    "metrics_code",
    "user_code",
    "without_code",
]

T = TypeVar("T")


def name(stage: str, project: str, scene: str | None = None) -> str:
    """Return the name of an artifact, which is the name of its doit task."""
    parts = [stage, project] if scene is None else [stage, project, scene]
    return ":".join(map(_quoted, parts))


@functools.lru_cache(maxsize=1 << 16)
def _quoted(part: str) -> str:
    return quote(part, safe=" !$&'()+,;@~#^`{}")


def folder(project: Project, *parts: str) -> str:
    """Return the directory of outputs of `project`, relative to the workspace."""
    return "/".join(["cache", project.name, *parts])


def seed(project: Project, artifact: str) -> int:
    """Return the seed of an artifact, derived from the project's seed and the artifact's name without the project."""
    return _seed(project.seed, artifact)


def _seed(seed: int, what: str) -> int:
    return xxhash.xxh3_64_intdigest(canonical([seed, what])) & 0x7FFFFFFF


def classes(project: Project) -> list[dict[str, Any]]:
    """Return the classes in the form of stage settings."""
    return once(project, "classes", lambda: [{"id": c.id, "name": c.name, "color": c.color} for c in project.classes])


def class_names(project: Project) -> list[dict[str, Any]]:
    """Return the classes without colours, so that changing a colour does not train again."""
    return once(project, "class names", lambda: [{"id": c.id, "name": c.name} for c in project.classes])


def class_ids(project: Project) -> list[dict[str, Any]]:
    """Return the classes without names and colours, for stages that write neither."""
    return once(project, "class ids", lambda: [{"id": c.id} for c in project.classes])


def once(project: Project, what: Any, make: Callable[[], T]) -> T:
    """Return the result of `make`, called once for each `what` of a project: there may be thousands of scenes.

    Artifacts share the result, so it must not be modified.
    """
    memo = project.memo
    if what not in memo:
        memo[what] = make()
    found: T = memo[what]
    return found


def image_settings(project: Project, scene: Scene) -> dict[str, Any]:
    """Return the settings to read the imagery of `scene`."""
    found = scene.image
    return found.stage_settings() if found.layout else once(project, ("image", id(found.table)), found.stage_settings)


def label_settings(project: Project, scene: Scene) -> dict[str, Any]:
    """Return the settings to read the labels of `scene`, which must have labels."""
    found = scene.labels
    assert found is not None
    if isinstance(found, BoxFileLabels) or getattr(found, "cells", None) is not None:
        return found.stage_settings()
    parts = tuple((count, id(table)) for count, table in getattr(found, "parts", ()))
    return once(project, ("labels", parts or id(getattr(found, "table", None))), found.stage_settings)


def label_classes(project: Project, scene: Scene) -> list[dict[str, Any]]:
    """Return the classes as needed to read labels: with colours only if the files hold colours."""
    return classes(project) if label_settings(project, scene).get("encoding") == "rgb" else class_names(project)


def chip_settings(project: Project, scene: Scene) -> dict[str, Any]:
    """Return the settings to cut the chips of `scene`."""
    table = scene.chip or project.chip
    return once(project, ("chip", id(table)), table.stage_settings)


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
    found = {}
    for package in project.strict:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UsageError(f"{project.path}: project.strict: {package!r} is not an installed package") from None
    return found


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
    if settings["kind"] in BOX_FILES:
        files = tuple(resolve(project, p) for p in scene.labels.files)
        used = {key: settings[key] for key in ("kind", "image", "scene_image")}
        args = canonical({**used, "labels": settings["class"] is None}).decode()
        return Source(
            "labels", files, digests=(ContentDigest("rvbuild.geo.vector.box_files:digest", args),) * len(files)
        )
    if settings["kind"] == "layers":
        return _layers(project, "labels", scene.labels.files, settings)
    return _vectors(project, "labels", scene.labels.files, settings)


def aoi(project: Project, scene: Scene) -> Source | None:
    """Return the area of interest of `scene` as an input."""
    if not scene.aoi:
        return None
    return _vectors(project, "aoi", scene.aoi, {"parts": scene.aoi_parts} if scene.aoi_parts else {}, classless=True)


def area(project: Project, scene: Scene) -> dict[str, Any]:
    """Return the settings that limit a scene to a part; empty if all of it counts, or all of the files of its area."""
    found: dict[str, Any] = {"parts": [dict(part) for part in scene.aoi_parts]} if scene.aoi_parts else {}
    if scene.blocks is not None:
        own = {"seed": _seed(scene.blocks["seed"], f"split:{scene.base}")}
        found["blocks"] = {**scene.blocks, **own}
    return {"area": found} if found else {}


def predictions(project: Project, scene: Scene) -> Product:
    """Return the evaluated prediction of `scene` as an input."""
    stage, files = SPECS[project.task].predictions()
    return Product("predictions", name(stage, project.name, scene.id), files)


def evaluated(project: Project) -> list[Scene]:
    """Return the scenes whose predictions are compared with labels, by id."""
    found = (s for s in project.scenes if s.split in project.eval.splits and s.labels is not None)
    return sorted(found, key=lambda s: s.id)


def raw_files(project: Project) -> tuple[str, ...]:
    """Return the outputs of infer that predict derives all other files from."""
    return SPECS[project.task].raw


def scores(project: Project, scene: Scene) -> Product | None:
    """Return the raster of scores of a scene, if the project writes one."""
    if not project.predict.stage_settings().get("scores"):
        return None
    return Product("scores", name("infer", project.name, scene.id), ("scores.tif",))


def present(*sources: Source | Product | None) -> tuple[Source | Product, ...]:
    """Return the inputs that are not None."""
    return tuple(s for s in sources if s is not None)


def normalize(project: Project) -> dict[str, Any]:
    """Return the setting `normalize` of the transform that needs statistics, if any; all scenes share it."""
    how = project.scenes[0].image.normalize() if project.scenes else None
    return {} if how is None else {"normalize": how}


def resolve(project: Project, path: str) -> Path:
    """Return `path` as an absolute path in the workspace; addresses are unchanged."""
    return Url(path) if is_url(path) else _resolve(str(project.workspace), path)


@functools.lru_cache(maxsize=1 << 17)
def _resolve(workspace: str, path: str) -> Path:
    return Path(os.path.normpath(os.path.join(workspace, path)))  # noqa: PTH118 - for thousands of scenes


def _rasters(project: Project, role: str, paths: tuple[str, ...]) -> Source:
    files = tuple(resolve(project, p) for p in paths)
    companions = _companions(project)
    sorted_out = [sidecars.sort(companions.of_raster(f)) for f in files]
    sidecar_files = tuple(counted for counted, _ in sorted_out)
    ignored = tuple(other for _, others in sorted_out for other in others)
    return Source(role, files, sidecar_files if any(sidecar_files) else (), ignored_sidecars=ignored)


def _vectors(
    project: Project, role: str, paths: tuple[str, ...], settings: Mapping[str, Any], classless: bool = False
) -> Source:
    files = tuple(resolve(project, p) for p in paths)
    companions = _companions(project)
    sorted_out = [sidecars.sort(companions.of_vector(f)) for f in files]
    sidecar_files = tuple(counted for counted, _ in sorted_out)
    ignored = tuple(other for _, others in sorted_out for other in others)
    digests: list[ContentDigest | None] = []
    for some, how in parts(files, settings):
        args = canonical(reading(how, classless=classless)).decode()
        digests += [ContentDigest("rvbuild.geo.vector.files:digest", args)] * len(some)
    return Source(role, files, sidecar_files if any(sidecar_files) else (), tuple(digests), ignored_sidecars=ignored)


def _layers(project: Project, role: str, paths: tuple[str, ...], settings: Mapping[str, Any]) -> Source:
    """Combine rasters and vectors into one input, each digested as it would be alone."""
    found = [
        _rasters(project, role, tuple(some)) if how["kind"] == "raster" else _vectors(project, role, tuple(some), how)
        for some, how in parts(paths, settings)
    ]
    return Source(
        role,
        tuple(file for one in found for file in one.files),
        tuple(paths for one in found for paths in one.sidecars or ((),) * len(one.files)),
        tuple(each for one in found for each in one.digests or (None,) * len(one.files)),
        ignored_sidecars=tuple(path for one in found for path in one.ignored_sidecars),
    )


def listed(project: Project) -> dict[str, int]:
    """Return the directories that were searched for sidecars of files, with their mtime_ns before the search."""
    return _companions(project).listed()


def places(workspace: Path | None, projects: Iterable[Project]) -> dict[str, str]:
    """Return the environment variables that tell workers where virtual files of the projects may lead."""
    return admission.environment(workspace, (place for project in projects for place in project.allow))


def prepare(projects: Sequence[Project], ask: Ask, state: State, workspace: Path) -> Callable[[Path], tuple[Path, ...]]:
    """Find the files that belong to the files of projects, by asking GDAL unless the answer is stored in `state`.

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
                questions.update(((kind, resolve(project, path)), None) for path in paths)
    companions.learn(questions)
    return lambda path: sidecars.sort(companions.appeared(path))[0]


def _inputs(project: Project, scene: Scene) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the files of a scene that may have sidecars, with the settings to read them."""
    yield RASTER, scene.image.files
    yield VECTOR, scene.aoi
    if scene.labels is None:
        return
    settings = label_settings(project, scene)
    if settings["kind"] == "layers":
        yield from ((how["kind"], some) for some, how in parts(scene.labels.files, settings))
    elif settings["kind"] not in BOX_FILES:
        yield settings["kind"], scene.labels.files


def _companions(project: Project) -> Companions:
    """Return the finder of files that belong to inputs; it asks GDAL in this process unless `prepare` was called."""
    found = project.memo.get(Companions)
    if found is None:
        found = project.memo[Companions] = Companions(_ask_here)
    assert isinstance(found, Companions)
    return found


def _ask_here(questions: Sequence[Question]) -> list[dict[str, Any]]:
    from rvbuild.geo.dataset_files import ask

    return ask([(kind, str(path)) for kind, path in questions])
