"""What the rules share: names of artifacts, seeds, and the files that an input consists of."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote
from xml.etree import ElementTree

import xxhash

from rvbuild.build.artifact import Artifact, Demand, Product, Source, View, canonical
from rvbuild.errors import UsageError
from rvbuild.geo.reading import parts, reading
from rvbuild.project import Project, Scene
from rvbuild.project.box_files import TABLES as BOX_FILES
from rvbuild.project.model import BoxFileLabels
from rvbuild.urls import Url, is_url

from . import sidecars
from .own_code import image_code, images_code, user_code, without_code

__all__ = [
    "Artifact",
    "Demand",
    "Product",
    "Project",
    "Scene",
    "Source",
    "image_code",
    "images_code",
    "user_code",
    "without_code",
]

T = TypeVar("T")

RAW = {
    "chip_classification": ("cells.json",),
    "object_detection": ("raw_boxes.safetensors",),
    "semantic_segmentation": ("raw_labels.tif",),
}
"""The outputs of infer that predict reads, by task: what the task's module calls RAW."""

PREDICTIONS = {
    **{task: ("infer", files) for task, files in RAW.items()},
    "object_detection": ("predict", ("detections.json",)),
}
"""The outputs that eval reads, by task, and the stage that makes them."""

_WORLD = (".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".wld", ".prj")
_RASTER_BESIDE = (".aux.xml", ".msk")
_VECTOR_BESIDE = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".tab": (".dat", ".map", ".id", ".ind"),
    ".mif": (".mid",),
    ".gml": (".gfs", ".xsd"),
    ".csv": (".csvt", ".prj"),
}
#: How the names of all of these end.
_BESIDE = (*_WORLD, *_RASTER_BESIDE, *(s for suffixes in _VECTOR_BESIDE.values() for s in suffixes), "-wal")


def name(stage: str, project: str, scene: str | None = None) -> str:
    """Return the name of an artifact, which is the name of its doit task."""
    parts = [stage, project] if scene is None else [stage, project, scene]
    return ":".join(map(_quoted, parts))


@functools.lru_cache(maxsize=1 << 16)
def _quoted(part: str) -> str:
    return quote(part, safe=" !$&'()+,;@~#^`{}")


def folder(project: Project, *parts: str) -> str:
    """Return where outputs of `project` are shown, relative to the workspace."""
    return "/".join(["cache", project.name, *parts])


def seed(project: Project, artifact: str) -> int:
    """Return the seed of an artifact, from the project's seed and `artifact`, a name without the project's."""
    return _seed(project.seed, artifact)


def _seed(seed: int, what: str) -> int:
    return xxhash.xxh3_64_intdigest(canonical([seed, what])) & 0x7FFFFFFF


def classes(project: Project) -> list[dict[str, Any]]:
    """Return the classes as stages are given them."""
    return once(project, "classes", lambda: [{"id": c.id, "name": c.name, "color": c.color} for c in project.classes])


def class_names(project: Project) -> list[dict[str, Any]]:
    """Return the classes without colours, so that another colour trains no model again."""
    return once(project, "class names", lambda: [{"id": c.id, "name": c.name} for c in project.classes])


def class_ids(project: Project) -> list[dict[str, Any]]:
    """Return the classes without names and colours, for what writes neither."""
    return once(project, "class ids", lambda: [{"id": c.id} for c in project.classes])


def once(project: Project, what: Any, make: Callable[[], T]) -> T:
    """Return what `make` gives, called once for each `what` of a project: there may be thousands of scenes.

    Artifacts share the result, and nobody changes it.
    """
    memo = project.memo
    if what not in memo:
        memo[what] = make()
    found: T = memo[what]
    return found


def image_settings(project: Project, scene: Scene) -> dict[str, Any]:
    """Return how the imagery of `scene` is read, as stages are given it."""
    found = scene.image
    return found.slice() if found.layout else once(project, ("image", id(found.table)), found.slice)


def label_settings(project: Project, scene: Scene) -> dict[str, Any]:
    """Return how the labels of `scene`, which has some, are read, as stages are given it."""
    found = scene.labels
    assert found is not None
    if isinstance(found, BoxFileLabels) or getattr(found, "cells", None) is not None:
        return found.slice()
    parts = tuple((count, id(table)) for count, table in getattr(found, "parts", ()))
    return once(project, ("labels", parts or id(getattr(found, "table", None))), found.slice)


def label_classes(project: Project, scene: Scene) -> list[dict[str, Any]]:
    """Return the classes as labels are read with them: with colours only where these stand for classes in a file."""
    return classes(project) if label_settings(project, scene).get("encoding") == "rgb" else class_names(project)


def chip_settings(project: Project, scene: Scene) -> dict[str, Any]:
    """Return how the chips of `scene` are cut, as stages are given it."""
    table = scene.chip or project.chip
    return once(project, ("chip", id(table)), table.slice)


def stores_images(project: Project, scene: Scene) -> bool:
    """Tell whether the images of the chips of `scene` are stored."""
    return (scene.chip or project.chip).store


def packages(project: Project) -> dict[str, str]:
    """Return the versions of the packages that the project wants in its keys.

    Raises
    ------
    UsageError
        If one of them is not installed.
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
    """Return the labels of `scene` as an input: rasters by their bytes, vectors by what they mean."""
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
        return Source("labels", files, views=(View("rvbuild.geo.box_files:digest", args),) * len(files))
    if settings["kind"] == "layers":
        return _layers(project, "labels", scene.labels.files, settings)
    return _vectors(project, "labels", scene.labels.files, settings)


def aoi(project: Project, scene: Scene) -> Source | None:
    """Return the area of interest of `scene` as an input."""
    if not scene.aoi:
        return None
    return _vectors(project, "aoi", scene.aoi, {"parts": scene.aoi_parts} if scene.aoi_parts else {}, classless=True)


def area(project: Project, scene: Scene) -> dict[str, Any]:
    """Return the settings that say which part of a scene counts; none if all of it, or all of its area's files."""
    found: dict[str, Any] = {"parts": [dict(part) for part in scene.aoi_parts]} if scene.aoi_parts else {}
    if scene.blocks is not None:
        own = {"seed": _seed(scene.blocks["seed"], f"split:{scene.base}")}
        found["blocks"] = {**scene.blocks, **own}
    return {"area": found} if found else {}


def predictions(project: Project, scene: Scene) -> Product:
    """Return what was predicted for `scene` and is evaluated, as an input."""
    stage, files = PREDICTIONS[project.task]
    return Product("predictions", name(stage, project.name, scene.id), files)


def evaluated(project: Project) -> list[Scene]:
    """Return the scenes whose predictions are compared with labels, by id."""
    found = (s for s in project.scenes if s.split in project.eval.splits and s.labels is not None)
    return sorted(found, key=lambda s: s.id)


def raw_files(project: Project) -> tuple[str, ...]:
    """Return the outputs of infer that predict derives all others from."""
    return RAW[project.task]


def present(*sources: Source | Product | None) -> tuple[Source | Product, ...]:
    """Return those inputs that there are."""
    return tuple(s for s in sources if s is not None)


def normalize(project: Project) -> dict[str, Any]:
    """Return the setting `normalize` if images have a transformer that needs statistics; it is the same for all."""
    how = project.scenes[0].image.normalize() if project.scenes else None
    return {} if how is None else {"normalize": how}


def resolve(project: Project, path: str) -> Path:
    """Return `path` made absolute from the workspace; an address stays what it is."""
    return Url(path) if is_url(path) else _resolve(str(project.workspace), path)


@functools.lru_cache(maxsize=1 << 17)
def _resolve(workspace: str, path: str) -> Path:
    return Path(os.path.normpath(os.path.join(workspace, path)))  # noqa: PTH118 - for thousands of scenes


def _rasters(project: Project, role: str, paths: tuple[str, ...]) -> Source:
    files = tuple(resolve(project, p) for p in paths)
    sorted_out = [sidecars.sort(_raster_companions(f, _siblings(f, project.memo))) for f in files]
    beside = tuple(counted for counted, _ in sorted_out)
    unread = tuple(other for _, others in sorted_out for other in others)
    return Source(role, files, beside if any(beside) else (), unread=unread)


def _vectors(
    project: Project, role: str, paths: tuple[str, ...], settings: Mapping[str, Any], classless: bool = False
) -> Source:
    files = tuple(resolve(project, p) for p in paths)
    beside = tuple(_vector_companions(f, _siblings(f, project.memo)) for f in files)
    views: list[View | None] = []
    for some, how in parts(files, settings):
        args = canonical(reading(how, classless=classless)).decode()
        views += [View("rvbuild.geo.vectors:digest", args)] * len(some)
    return Source(role, files, beside if any(beside) else (), tuple(views))


def _layers(project: Project, role: str, paths: tuple[str, ...], settings: Mapping[str, Any]) -> Source:
    """Return rasters and vectors together, each digested as it would be alone."""
    found = [
        _rasters(project, role, tuple(some)) if how["kind"] == "raster" else _vectors(project, role, tuple(some), how)
        for some, how in parts(paths, settings)
    ]
    return Source(
        role,
        tuple(file for one in found for file in one.files),
        tuple(beside for one in found for beside in one.companions or ((),) * len(one.files)),
        tuple(view for one in found for view in one.views or (None,) * len(one.files)),
        unread=tuple(path for one in found for path in one.unread),
    )


def listed(project: Project) -> dict[str, int]:
    """Return the directories in which companions of files were looked for, with their mtime_ns before that."""
    return {key.path: found[0] for key, found in project.memo.items() if isinstance(key, _Directory)}


class _Directory(NamedTuple):
    path: str


def _siblings(path: Path, memo: dict[Any, Any]) -> frozenset[str]:
    """Return the names in the directory of `path` that may be companions of other files; it is read once."""
    if isinstance(path, Url):
        return frozenset()
    directory = _Directory(os.path.dirname(path))  # noqa: PTH120 - for thousands of scenes
    known = memo.get(directory)
    if known is None:
        try:
            mtime_ns = os.stat(directory.path).st_mtime_ns  # noqa: PTH116 - as above
            names = frozenset(e.name for e in os.scandir(directory.path) if e.name.lower().endswith(_BESIDE))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        known = memo[directory] = mtime_ns, names
    found: frozenset[str] = known[1]
    return found


def _raster_companions(path: Path, names: Collection[str]) -> tuple[Path, ...]:
    if isinstance(path, Url):
        return ()  # GDAL is told not to look for any
    found: list[Path] = []
    if names:
        wanted = [path.name + suffix for suffix in _RASTER_BESIDE] + [path.stem + suffix for suffix in _WORLD]
        found = [path.with_name(n) for w in wanted for n in (w, w.upper()) if n in names and n != path.name]
    if path.suffix.lower() == ".vrt":
        found += _vrt_sources(path)
    return tuple(dict.fromkeys(found))


def _vector_companions(path: Path, names: Collection[str]) -> tuple[Path, ...]:
    if isinstance(path, Url) or not names:
        return ()
    suffix = path.suffix.lower()
    wanted = [path.stem + s for s in _VECTOR_BESIDE.get(suffix, ())]
    if suffix in (".gpkg", ".sqlite"):
        wanted.append(path.name + "-wal")  # edits that are not merged into the file yet
    return tuple(path.with_name(n) for w in wanted for n in (w, w.upper()) if n in names)


def _vrt_sources(path: Path) -> list[Path]:
    """Return the files that the virtual raster at `path` is made of; an unreadable one is the stage's to report."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return []
    found: list[Path] = []
    for element in root.iter("SourceFilename"):
        text = (element.text or "").strip()
        for virtual, scheme in (("/vsicurl/", ""), ("/vsis3/", "s3://"), ("/vsigs/", "gs://")):
            if text.startswith(virtual):
                text = scheme + text.removeprefix(virtual)
        if is_url(text):
            found.append(Url(text))
        elif text and not text.startswith("/vsi"):
            relative = element.get("relativeToVRT") == "1"
            found.append(Path(os.path.normpath(path.parent / text if relative else Path(text).absolute())))
    return found
