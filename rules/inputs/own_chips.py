"""Users' pre-cut chips as inputs: the files of each split in the folders and zips of `[train] chips`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.errors import DataError, UsageError
from rvbuild.files.leftovers import is_leftover
from rvbuild.files.zipped import is_zip, members, root_of
from rvbuild.project.chip_folders import CHIP_SPLITS
from rvbuild.rules.common import Artifact, Product, Project, classes, folder, name, packages, resolve, seed
from rvbuild.rules.common import Source as Files
from rvbuild.rules.inputs import sidecars
from rvbuild.settings.area import Split

if TYPE_CHECKING:
    from rvbuild.stages.chip.settings import FolderPartSettings, OwnChipSettings, ZipPartSettings

RUN = "rvbuild.stages.chip.folder:run"
CODE = ("rvbuild.stages.chip.folder", "rvbuild.stages.analyze.chips")
WRITES = ("index.json", "blocks.json", "contact.png", "images-*.safetensors", "labels-*.safetensors")


@dataclass(frozen=True)
class _Part:
    """The chips of one split in one folder or zip.

    Attributes
    ----------
    path
        The folder of the split, or the zip.
    inside
        None for a folder; else the folder of the split in the zip, with a slash.
    watched
        Folders where a new file would also be an input, besides those in `path`.
    """

    path: Path
    inside: str | None = None
    watched: tuple[Path, ...] = ()

    def files(self) -> list[Path]:
        """Return the files that are read."""
        return sorted(_files(self.path)) if self.inside is None else [self.path]

    def folders(self) -> tuple[Path, ...]:
        """Return the folders where a new file would also be an input."""
        return (*self.watched, *(_directories(self.path) if self.inside is None else ()))

    def settings(self, files: list[Path]) -> FolderPartSettings | ZipPartSettings:
        """Return the stage settings of the part: the place of each file, or of all files in the zip."""
        if self.inside is not None:
            return {"inside": self.inside}
        return {"relative": [path.relative_to(self.path).as_posix() for path in files]}


def products(project: Project, *files: str, unkeyed: tuple[str, ...] = ()) -> list[Product]:
    """Return the chips of each split as inputs."""
    return [
        Product(f"chips/{split}/{split}", name("chip", project.name, split), files, unkeyed)
        for split in _parts(project)
    ]


def artifacts(project: Project, code: str, version: int) -> Iterator[Artifact]:
    """Yield the chips of each split."""
    chips = project.train.chips
    assert chips is not None
    for split, parts in _parts(project).items():
        files = [part.files() for part in parts]
        settings: OwnChipSettings = {
            "task": project.task,
            "split": split,
            "classes": classes(project),
            "null_id": project.null_id,
            "size_px": project.chip_px,
            "resize": project.chip.is_set("size_px"),
            **chips.stage_settings(),
            "parts": [part.settings(paths) for part, paths in zip(parts, files, strict=True)],
            "seed": seed(project, f"chip:{split}"),
        }
        yield Artifact(
            name=name("chip", project.name, split),
            project=project.name,
            stage="chip",
            scene=split,
            run=RUN,
            version=version,
            settings=settings,
            inputs=tuple(
                _source(f"files/{number}", part, paths)
                for number, (part, paths) in enumerate(zip(parts, files, strict=True))
            ),
            folder=folder(project, "chip", split),
            code=code,
            packages=packages(project),
            writes=WRITES,
        )


def _source(role: str, part: _Part, files: list[Path]) -> Files:
    """Return the files of a part as an input, with the sidecars that GDAL reads."""
    folders = tuple(sorted(part.folders()))
    if part.inside is not None:
        return Files(role, tuple(files), folders=folders)
    there = {path for path in _all_files(part.path) if path.name.lower().endswith(_BESIDE)}
    candidates = [[path.with_name(path.name + ending) for ending in _BESIDE] for path in files] if there else []
    sorted_out = [sidecars.sort(path for path in paths if path in there) for paths in candidates]
    counted = tuple(paths for paths, _ in sorted_out)
    return Files(
        role,
        tuple(files),
        counted if any(counted) else (),
        folders=folders,
        ignored_sidecars=tuple(other for _, others in sorted_out for other in others),
    )


_BESIDE = (".aux.xml", ".msk")
"""Name endings of sidecars that change how GDAL reads a file."""


def _parts(project: Project) -> dict[Split, list[_Part]]:
    """Return the parts of each split that has chips; those of training in any case."""
    chips = project.train.chips
    assert chips is not None
    by_split: dict[Split, list[_Part]] = {"train": []}
    for path in chips.folder:
        root = resolve(project, path)
        try:
            parts = list(_of_zip(root) if is_zip(root) else _of_folder(root))
        except DataError as error:
            raise UsageError(f"{project.path}: train.chips.folder: {error}") from None
        for split, part in parts:
            by_split.setdefault(split, []).append(part)
    return by_split


def _of_folder(root: Path) -> Iterator[tuple[Split, _Part]]:
    """Yield the parts in a folder of splits, or of zips."""
    has_splits = False
    for split, names in CHIP_SPLITS.items():
        for base in (root / directory for directory in names):
            if any(True for _ in _files(base)):
                yield split, _Part(base, watched=(root,))
                has_splits = True
                break
    zips = [] if has_splits else sorted(path for path in root.glob("*") if is_zip(path))
    for path in zips:
        for split, part in _of_zip(path):
            yield split, _Part(path, part.inside, watched=(root,))
    if not has_splits and not zips:
        yield "train", _Part(root / "train", watched=(root,))


def _of_zip(path: Path) -> Iterator[tuple[Split, _Part]]:
    """Yield the parts in a zip."""
    if not path.exists():
        yield "train", _Part(path, "train/")  # a separate message reports that it is missing
        return
    inner = members(path)
    root = root_of(inner, [directory for names in CHIP_SPLITS.values() for directory in names])
    has_splits = False
    for split, names in CHIP_SPLITS.items():
        for inside in (f"{root}{directory}/" for directory in names):
            if any(member.startswith(inside) for member in inner):
                yield split, _Part(path, inside)
                has_splits = True
                break
    if not has_splits:
        raise DataError(f"{path}: expected a folder train/ in the zip, found {_first(inner)}")


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (" …" if names[3:] else "") if names else "no file"


def _files(base: Path) -> Iterator[Path]:
    """Yield all files in a folder tree, except those that tools leave there."""
    return (path for path in _all_files(base) if not is_leftover(path.relative_to(base).as_posix()))


def _all_files(base: Path) -> Iterator[Path]:
    """Yield all files in a folder tree that are not hidden."""
    for directory, folders, names in os.walk(base):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        yield from (Path(directory, name) for name in names if not name.startswith("."))


def _directories(base: Path) -> Iterator[Path]:
    """Yield a folder and its subfolders."""
    for directory, folders, _ in os.walk(base):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        yield Path(directory)
