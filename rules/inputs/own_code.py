"""Users' own code as an input: the modules that a project names, their dependencies, and the files that they read."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rvbuild.engine.keys import modules
from rvbuild.engine.keys.artifact import ContentDigest, Source, canonical
from rvbuild.errors import UsageError
from rvbuild.files.address import is_url
from rvbuild.process.variables import value_digests
from rvbuild.project.model import Project, Scene
from rvbuild.rules.inputs.once import once
from rvbuild.settings.image import ImageSettings

_CODE = ContentDigest("rvbuild.engine.keys.code:module_digest", '{"syntax":2}')


def user_code(project: Project, *scenes: Scene) -> tuple[Source, ...]:
    """Return the user's source files of the project's models, losses and augmentations.

    With scenes, also those of their transforms.
    """
    of_training = once(project, "modules of training", lambda: _of_training(project))
    return _source(project, {**of_training, **_of_images(project, scenes)})


def image_code(project: Project, scene: Scene) -> tuple[Source, ...]:
    """Return the user's source files of the transforms of `scene`."""
    key = "code of image", id(scene.image.table)
    return once(project, key, lambda: _source(project, _of_images(project, (scene,))))


def images_code(project: Project, scenes: Sequence[Scene]) -> tuple[Source, ...]:
    """Return the user's source files of the transforms of some scenes."""
    return _source(project, _of_images(project, scenes))


def metrics_code(project: Project) -> tuple[Source, ...]:
    """Return the user's source files of metrics."""
    where = project.where(("eval", "metrics"))
    named = {metric.partition(":")[0]: where for metric in project.eval.metrics}
    return tuple(replace(source, passed=False) for source in _source(project, named))


def code_of_modules(project: Project, named: Mapping[str, str]) -> tuple[Source, ...]:
    """Return the user's source files of some modules.

    Parameters
    ----------
    project
        The project.
    named
        Dotted name of each module -> where the project names it, for messages.
    """
    return _source(project, named)


def without_code(image: ImageSettings) -> ImageSettings:
    """Return settings of an image without the user's transform and those after it."""
    steps = list(itertools.takewhile(lambda step: step["kind"] != "function", image.get("transform", ())))
    settings: ImageSettings = {**image, "transform": steps}
    if not steps:
        del settings["transform"]
    return settings


def _of_training(project: Project) -> dict[str, str]:
    """Return the modules that training uses, each with its key."""
    if project.train.backend is not None:
        named = [("backend", project.train.backend)]
    else:
        train = project.train.stage_settings()
        named = [("augment", name) for name in train["augment"]]
        named += [("loss", train["loss"])] if isinstance(train["loss"], str) else []
        named += [("model", train["model"])]
    return {name.partition(":")[0]: project.where(("train", key)) for key, name in named if ":" in name}


def _of_images(project: Project, scenes: Iterable[Scene]) -> dict[str, str]:
    named = [module for scene in scenes for module in scene.image.modules()]
    return dict.fromkeys(named, project.where(("scene", "image"))) if named else {}


def _source(project: Project, named: Mapping[str, str]) -> tuple[Source, ...]:
    """Return the code and the files that it reads as an input; none if no module is named.

    Raises
    ------
    UsageError
        A module cannot be used: it has the name of another one, or edits of it would go unnoticed.
    """
    if not named:
        return ()
    return once(project, ("code", tuple(sorted(named))), lambda: _made(project, named))


def _made(project: Project, named: Mapping[str, str]) -> tuple[Source, ...]:
    root = project.workspace
    declared, listed = depends(project)
    closure = modules.closure(root, named, [path for path in declared if path.suffix == ".py"])
    if closure.problems:
        raise UsageError("\n".join(closure.problems))
    code = {path for path in closure.modules.values()}
    order = functools.partial(_order, root, {str(path): name for name, path in closure.modules.items()})
    files = sorted(code | (closure.files - _of_scenes(project, closure.files)) | set(declared), key=order)
    if not files and not closure.packages:
        return ()
    digests = tuple(_content_digest(root, path, path in code) for path in files)
    served = {name: str(path) for name, path in sorted(closure.modules.items())}
    return (
        Source(
            "code",
            tuple(files),
            digests=digests,
            folders=tuple(sorted(closure.folders | listed)),
            modules=served,
            packages=dict(closure.packages),
            listed=tuple(sorted(closure.listed | listed)),
            variables=value_digests(closure.variables),
        ),
    )


def _of_scenes(project: Project, files: Collection[Path]) -> set[Path]:
    """Return the files of scenes among those that code names: code may only read the files that its stage receives."""
    if not files:
        return set()
    named = (
        path
        for scene in project.scenes
        for path in (*scene.image.files, *(scene.labels.files if scene.labels else ()), *scene.aoi)
    )
    return {Path(os.path.normpath(project.workspace / path)) for path in named if not is_url(path)}


def _order(root: Path, names: Mapping[str, str], path: Path) -> tuple[bool, tuple[str, ...]]:
    """Return a sort key of files: the same on every machine, wherever the workspace and other code are."""
    if path.is_relative_to(root):
        return False, path.relative_to(root).parts
    return True, (names.get(str(path), path.name), str(path))


def _content_digest(root: Path, path: Path, is_module: bool) -> ContentDigest | None:
    if path.suffix == ".py":
        return _CODE
    if is_module:  # compiled module
        return None
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return ContentDigest("rvbuild.engine.keys.code:named_file_digest", canonical({"name": name}).decode())


def looked_in(project: Project) -> set[Path]:
    """Return the directories where a new file may match `project.depends`; they need not exist."""
    return {folder for base, inside in _patterns(project) for folder in (base, *_folders(base, inside))}


def _patterns(project: Project) -> list[tuple[Path, str]]:
    """Return the place of each entry of `project.depends`: a directory, and a pattern of paths in it."""
    patterns = []
    for text in project.depends:
        path = Path(os.path.normpath(project.workspace / text))
        wild = (number for number, part in enumerate(path.parts) if _WILD & set(part))
        at = next(wild, len(path.parts) - 1)
        patterns.append((Path(*path.parts[:at]), "/".join(path.parts[at:])))
    return patterns


_WILD = set("*?[")


def _folders(base: Path, inside: str) -> Iterator[Path]:
    """Yield the directories below `base` where a new file may match a pattern."""
    parts = inside.split("/")
    for end in range(1, len(parts)):
        yield from (path for path in base.glob("/".join(parts[:end])) if path.is_dir())


def depends(project: Project) -> tuple[list[Path], set[Path]]:
    """Return the files that match `project.depends`, and the directories that its patterns search.

    Raises
    ------
    UsageError
        There is no such file.
    """
    files: dict[Path, None] = {}
    folders: set[Path] = set()
    missing = []
    for text, (base, inside) in zip(project.depends, _patterns(project), strict=True):
        fitting = [base / inside]
        if _WILD & set(inside):
            fitting = sorted(base.glob(inside)) if base.is_dir() else []
            folders |= {base, *_folders(base, inside)} if base.is_dir() else set()
        fitting = [path for path in fitting if path.is_file()]
        if not fitting:
            missing.append(f"{project.where(('project', 'depends'))}: no such file: {text}")
        files |= dict.fromkeys(fitting)
    if missing:
        raise UsageError("\n".join(missing))
    return list(files), folders
