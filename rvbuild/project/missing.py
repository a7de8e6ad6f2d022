"""A compact report of all files that a project names and that do not exist."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvbuild.errors import nearest
from rvbuild.files.address import is_url
from rvbuild.files.zipped import is_zip
from rvbuild.project.chip_folders import CHIP_SPLITS
from rvbuild.project.model import Project, Scene, Written
from rvbuild.project.tables.own_rules import stage_of
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.paths import variables_of
from rvbuild.project.toml.reading import shown

DIRECTORIES = (".gdb", ".zarr")
"""Suffixes of inputs that are directories."""

_ABSENT = "no such file"
_FEW = 3  # up to this many files of one key and directory are listed one by one
_MOST = 20  # files of one key that are listed


@dataclass(frozen=True)
class _Missing:
    """A file that cannot be used."""

    path: str
    scene: str
    split: str
    part: str
    written: Written
    reason: str
    to_make: bool = False


def missing_files(
    project: Project,
    scenes: Iterable[str] | None = None,
    is_readable: Callable[[str], bool] = lambda path: False,
    *,
    builds: bool = False,
    drafts: bool = False,
) -> list[str]:
    """Return the problems of the files that a project names.

    Parameters
    ----------
    project
        The project.
    scenes
        The ids of the scenes to check. Default: all.
    is_readable
        Tells whether a file is already known to be readable, from its absolute path.
    builds
        Whether outputs of the project's own stages are built before they are read, so that they need not exist yet.
    drafts
        Whether the weights of the encoder of drafts are needed.

    Returns
    -------
    list of str
        Messages, each with the place in the project file, the key, the file and its scene; empty if all files exist.
        Many files of one key and directory, or of one key in many directories, give one message of several lines, which
        lists the first files. Notes follow: variables that are not set, the base directory of relative paths, and the
        source of the data.
    """
    ids = None if scenes is None else set(scenes)
    selected = [scene for scene in project.scenes if ids is None or scene.id in ids]
    missing = [item for item in _find(project, selected, is_readable, drafts) if not (builds and item.to_make)]
    if not missing:
        return []
    groups: dict[tuple[str, str], dict[str, list[_Missing]]] = {}
    for item in missing:
        folders = groups.setdefault((item.written.where, item.reason), {})
        folders.setdefault(str(Path(item.path).parent), []).append(item)
    problems: list[str] = []
    for (where, reason), folders in groups.items():
        if len(folders) > _MOST:
            problems.append(_scattered(where, reason, folders))
            continue
        for directory, items in folders.items():
            if len(items) > _FEW:
                problems.append(_many(where, directory, reason, items))
            else:
                problems += [_single(project, item) for item in items]
    return [*problems, *_notes(project, missing)]


def _find(
    project: Project, scenes: Iterable[Scene], is_readable: Callable[[str], bool], drafts: bool
) -> Iterator[_Missing]:
    """Yield each file that cannot be used, once per scene and part."""
    root = str(project.workspace)
    folders = {stage_of(rule): f"{root}/cache/{project.title}/{stage_of(rule)}" for rule in project.rules}
    for paths, scene, split, part in _named(project, scenes, drafts):
        for number, path in enumerate(paths):
            where = path if path.startswith("/") else f"{root}/{path}"
            if is_url(path) or is_readable(where) or not (reason := _reason(where)):
                continue
            maker = next((stage for stage, folder in folders.items() if where.startswith(f"{folder}/")), None)
            to_make = reason == _ABSENT and maker is not None
            reason = f"not built yet; `rvbuild {maker}` builds it" if to_make else reason
            yield _Missing(path, scene, split, part, project.written[scene, part][number], reason, to_make)
    if project.train.chips is not None:
        for path, written in zip(project.train.chips.folder, project.written["", "chips"], strict=True):
            yield from _unusable_chips(project, path, written)


def _named(project: Project, scenes: Iterable[Scene], drafts: bool) -> Iterator[tuple[Sequence[str], str, str, str]]:
    """Yield the files of the project and of scenes, with the scene, its split and the part that they are of."""
    if drafts and project.draft.weights is not None:
        yield (project.draft.weights,), "", "", "draft"
    if project.train.weights is not None:
        yield (project.train.weights,), "", "", "weights"
    for scene in {scene.base: scene for scene in scenes}.values():
        yield scene.image.files, scene.base, scene.split, "image"
        if scene.labels is not None:
            yield scene.labels.files, scene.base, scene.split, "labels"
        if scene.aoi:
            yield scene.aoi, scene.base, scene.split, "aoi"


def _unusable_chips(project: Project, path: str, written: Written) -> Iterator[_Missing]:
    """Yield a problem if a project's own chips do not exist."""
    root = project.workspace / path
    if is_zip(root):
        if reason := _reason(str(root)):
            yield _Missing(path, "", "", "chips", written, reason)
    elif not any((root / name).is_dir() for names in CHIP_SPLITS.values() for name in names) and not any(
        is_zip(entry) for entry in (root.iterdir() if root.is_dir() else ())
    ):
        yield _Missing(f"{path}/train", "", "", "chips", written, "no such folder")


def _reason(path: str) -> str | None:
    """Return why a file cannot be used, or None."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - for thousands of scenes
    except (FileNotFoundError, NotADirectoryError):
        return _ABSENT
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode) and not path.lower().endswith(DIRECTORIES):
        return "is a directory, not a file"
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return "is a pipe, a socket or a device, not a file"
    return None if os.access(path, os.R_OK) else "cannot be read (permission denied)"


def _single(project: Project, item: _Missing) -> str:
    """Return the message about one file."""
    scene = f" (scene {item.scene})" if item.scene else ""
    return f"{item.written.where}: {item.reason}: {item.path}{scene}{_hint(project, item)}"


def _hint(project: Project, item: _Missing) -> str:
    """Return a hint for one file: a similar name, or that a test scene needs no labels."""
    path = project.workspace / item.path
    if item.reason == _ABSENT and path.parent.is_dir():
        declared = {project.workspace / file for scene in project.scenes for file in _files(scene)}
        # Files of other scenes also have similar names.
        part = item.scene.casefold() if item.scene in path.name else ""
        candidates = [entry.name for entry in path.parent.iterdir() if entry not in declared]
        candidates = [name for name in candidates if part in name.casefold()]
        if hint := nearest(path.name, candidates):
            return hint
    if item.part == "labels" and item.split == "test":
        return f"; if this scene has no labels, set labels = false in [scenes.by_id.{show(item.scene)}]"
    return ""


def _files(scene: Scene) -> Iterator[str]:
    """Yield all files of a scene."""
    yield from scene.image.files
    yield from scene.labels.files if scene.labels else ()
    yield from scene.aoi


def _many(where: str, directory: str, reason: str, items: list[_Missing]) -> str:
    """Return the message about many files of one key in one directory."""
    return _listed(
        f"{where}: {_several(reason)}: {len(items)} in {directory}", [Path(i.path).name for i in items], items
    )


def _scattered(where: str, reason: str, folders: Mapping[str, list[_Missing]]) -> str:
    """Return the message about files of one key in many directories."""
    items = [item for group in folders.values() for item in group]
    head = f"{where}: {_several(reason)}: {len(items)} in {len(folders)} directories"
    return _listed(head, [item.path for item in items], items)


def _several(reason: str) -> str:
    return "no such files" if reason == _ABSENT else reason


def _listed(head: str, names: list[str], items: list[_Missing]) -> str:
    lines = [f"    {name} (scene {item.scene})" for name, item in zip(names[:_MOST], items[:_MOST], strict=True)]
    unlisted = len(items) - len(lines)
    return "\n".join([head, *lines, *([f"    and {unlisted} more"] if unlisted else [])])


def _notes(project: Project, missing: list[_Missing]) -> Iterator[str]:
    """Yield advice on how to get the files."""
    for name, text in {k: v for item in missing for k, v in variables_of(item.written.text).items()}.items():
        value = project.env.get(name)
        if not value:
            yield f"note: environment variable {name} is not set, so {text} takes its default"
        else:
            yield f"note: environment variable {name} is {show(value)}"
    if any(not Path(item.path).is_absolute() for item in missing) and project.workspace != Path.cwd():
        yield f"note: relative paths start from {shown(project.workspace)}"
    if project.data_hint:
        yield f"hint: {project.data_hint}"
