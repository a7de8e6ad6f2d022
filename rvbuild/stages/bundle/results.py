"""The directories of the results of a bundle: which image goes where, and how a complete result appears."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.formats import SUFFIXES
from rvbuild.files.urls import Url
from rvbuild.project.tasks import SPECS

NAMED = frozenset(name for spec in SPECS.values() for name in spec.results)
VECTOR_SUFFIXES = frozenset({*SUFFIXES.values(), ".qml"})
"""Files that a directory of results may hold; vectors are named after a class, or as set in the project."""


@dataclass(frozen=True)
class Scene:
    """An image to predict.

    Attributes
    ----------
    name : str
        The directory of its result, relative to that of all results, with slashes.
    files : tuple of Path
        Its files: one, or one for each layer of a stack.
    """

    name: str
    files: tuple[Path, ...]


def grouped(images: Sequence[Path], count: int) -> list[tuple[Path, ...]]:
    """Return the files of each scene, of `count` files that follow one another.

    Raises
    ------
    DataError
        Files are missing.
    """
    if len(images) % count:
        raise DataError(
            f"the model was trained on stacks of {count} files: give {count} for each scene, in the order of the "
            f"project's layers; found {len(images)}"
        )
    return [tuple(images[start : start + count]) for start in range(0, len(images), count)]


def by_stem(scenes: Sequence[tuple[Path, ...]]) -> list[Scene]:
    """Return scenes that are named after their first file."""
    return [Scene(files[0].stem, files) for files in scenes]


def places(scenes: Sequence[Scene], out: Path, vectors: Set[str]) -> list[Path]:
    """Return the directory of the result of each scene, after checking that nothing would be lost.

    Parameters
    ----------
    scenes
        The scenes.
    out
        The directory of all results.
    vectors
        The names that vector files of a result may have.

    Raises
    ------
    DataError
        Two results would have one directory, or one inside the other; a result would replace an image, or something
        that is not a result.
    """
    targets = [out / scene.name for scene in scenes]
    resolved = {target.resolve() for target in targets}
    for image in (path for scene in scenes for path in scene.files):
        if isinstance(image, Url):
            continue
        place = image.resolve()
        # A result would hide or replace it.
        if not resolved.isdisjoint((place, *place.parents)):
            raise DataError(f"{image}: a result would overwrite it; choose a directory other than {out}")
        if not image.exists():
            raise DataError(f"{image}: no such file; expected an image")
    _require_apart(scenes, out)
    for target in targets:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise DataError(f"{target}: already exists and is not a directory; remove it, or choose another directory")
        there = sorted(target.iterdir()) if target.exists() else []
        strangers = [path.name for path in there if not _is_result(path, vectors)]
        if strangers:
            raise DataError(
                f"{target}: holds {strangers[0]}, which is not an earlier result and would be lost; choose another "
                "directory"
            )
    return targets


def _require_apart(scenes: Sequence[Scene], out: Path) -> None:
    """Raise a DataError if two results would have one directory, or one inside the other."""
    seen: dict[str, Scene] = {}
    for scene in scenes:
        # Some file systems take "A" and "a" for the same.
        other = seen.setdefault(scene.name.casefold(), scene)
        if other is not scene:
            raise DataError(
                f"{other.files[0]} and {scene.files[0]}: both results would be written to {out / scene.name}; "
                "rename one, or write the results to different directories"
            )
    for scene in scenes:
        for parent in Path(scene.name.casefold()).parents:
            if (above := seen.get(parent.as_posix())) is not None:
                raise DataError(
                    f"{above.files[0]} and {scene.files[0]}: the result of the second would be written into that of "
                    f"the first, {out / above.name}; rename one, or write the results to different directories"
                )


def _is_result(path: Path, vectors: Set[str]) -> bool:
    stem = _letters(path.stem)
    vector = path.suffix in VECTOR_SUFFIXES and {stem, stem.removesuffix("_")} & set(map(_letters, vectors))
    return (path.name in NAMED or bool(vector)) and path.is_file() and not path.is_symlink()


def _letters(name: str) -> str:
    """Return the class name as it appears in file names: non-word characters become `_`."""
    return re.sub(r"\W", "_", name)


def replace(target: Path, complete: Path, before: Path) -> None:
    """Put a complete directory in the place of an earlier one, which stays if that fails.

    Parameters
    ----------
    target
        The directory of the result.
    complete
        The new result; it is moved.
    before
        A path that does not exist, for the earlier result until it is removed.
    """
    if not target.exists():
        complete.rename(target)
        return
    target.rename(before)
    try:
        complete.rename(target)
    except OSError:
        before.rename(target)
        raise
    shutil.rmtree(before)
