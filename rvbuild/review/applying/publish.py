"""Edits on copies first, then in place: all label files or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.durable import sync
from rvbuild.geo.classes import Classes
from rvbuild.review.applying.changes import Plan
from rvbuild.review.applying.verify import verify_boxes, verify_file, verify_scenes
from rvbuild.review.edits.files import FileEdits, apply_edits, belonging, copy


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    files : list of Path
        The label files with verdicts applied.
    backup : Path or None
        Where the files are as they were, if they were changed in place.
    """

    files: list[Path]
    backup: Path | None


def stage(made: Plan, folder: Path, classes: Classes, null_id: int) -> dict[Path, Path]:
    """Edit copies of all files, and check them; return the copy of each file.

    Parameters
    ----------
    made
        The plan.
    folder
        Receives the copies.
    classes, null_id
        Of the project.

    Raises
    ------
    DataError
        A file cannot be edited exactly.
    """
    copies: dict[Path, Path] = {}
    for number, path in enumerate(dict.fromkeys(path for path, _ in made.files)):
        copies[path] = copy(path, folder / str(number))
    for (path, _), edits in made.files.items():
        try:
            apply_edits(copies[path], edits, classes, null_id)
        except DataError as error:  # names the copy
            raise DataError(str(error).replace(str(copies[path]), edits.name)) from error
    for (path, _), edits in made.files.items():
        verify_file(path, copies[path], edits)
    for changes in made.scenes:
        for path, edits in _box_files(made, changes.current.files).items():
            verify_boxes(path, copies[path], edits, changes.scene.labels)
    verify_scenes(made.scenes, copies)
    return copies


def _box_files(made: Plan, files: object) -> dict[Path, FileEdits]:
    return {
        path: edits
        for (path, _), edits in made.files.items()
        if edits.kind in ("coco", "voc", "csv") and path in tuple(files)  # type: ignore[arg-type]
    }


def write_copies(made: Plan, copies: Mapping[Path, Path], into: Path) -> Written:
    """Put the edited copies into a folder, in the folders that the project names them in.

    Raises
    ------
    DataError
        The folder has such files already, and they are not copies that were made here.
    """
    targets = _targets(made, into)
    into.mkdir(parents=True, exist_ok=True)
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        for each in belonging(copies[path]):
            _put(each, target.parent / each.name)
    return Written(list(targets.values()), None)


def write_in_place(
    made: Plan, copies: Mapping[Path, Path], backup: Path, before: Mapping[Path, object], classes: Classes, null_id: int
) -> Written:
    """Back the label files up, and put the edited copies in their places.

    A GeoPackage is changed where it is, in one transaction, since a program may have it open.

    Parameters
    ----------
    made, copies
        The plan, and its result.
    backup
        The folder of the backup, which does not exist.
    before
        What each file was when it was copied; see `states`.
    classes, null_id
        Of the project.

    Raises
    ------
    DataError
        A file has changed meanwhile, or is locked.
    """
    saved = _targets(made, backup)
    for path, target in saved.items():
        copy(path, target.parent)
    if changed := [path for path, state in states(made).items() if state != before[path]]:
        raise DataError(f"{changed[0]}: has changed while verdicts were applied; nothing was written, try again")
    begun: list[Path] = []
    try:
        # Those that another program may lock come first.
        for path in sorted(copies, key=_is_database, reverse=True):
            _replace(path, copies[path], made, classes, null_id, begun)
    except BaseException:
        for path in begun:
            _restore(path, saved[path])
        raise
    return Written(list(copies), backup)


def _is_database(path: Path) -> bool:
    return path.suffix.lower() == ".gpkg"


def _replace(path: Path, edited: Path, made: Plan, classes: Classes, null_id: int, begun: list[Path]) -> None:
    """Bring a file to what its edited copy is; note in `begun` that it has changed."""
    real = Path(os.path.realpath(path))
    if _is_database(path):
        for (of, _), edits in made.files.items():
            if of == path:
                apply_edits(real, edits, classes, null_id)  # all of a layer, or nothing
                begun.append(path)
        return
    begun.append(path)
    _put_all(edited, real)


def _put_all(source: Path, target: Path) -> None:
    """Put a file and those that belong to it in the place of another; of its own, those that are not there go."""
    new = {target.name if each == source else each.name: each for each in belonging(source)}
    for name, each in new.items():
        there = target.parent / name
        if not there.exists() or there.read_bytes() != each.read_bytes():
            _put(each, there)
    for stale in belonging(target):
        if stale.name not in new:
            stale.unlink()


def _restore(path: Path, saved: Path) -> None:
    """Bring a file back to what its backup is."""
    real = Path(os.path.realpath(path))
    if _is_database(path):
        with contextlib.closing(sqlite3.connect(saved)) as source, contextlib.closing(sqlite3.connect(real)) as target:
            source.backup(target)
    else:
        _put_all(saved, real)


def states(made: Plan) -> dict[Path, object]:
    """Return what each file is now: sizes and times of it and of those that belong to it."""
    return {
        path: [(each.name, (stat := each.stat()).st_size, stat.st_mtime_ns) for each in belonging(path)]
        for path in dict.fromkeys(path for path, _ in made.files)
    }


def _targets(made: Plan, into: Path) -> dict[Path, Path]:
    """Return where each file goes in a folder: its own path if that is relative and stays inside."""
    targets: dict[Path, Path] = {}
    for (path, _), edits in made.files.items():
        parts = [part for part in Path(edits.name).parts if part not in ("..", "/", os.sep)]
        relative = Path(*parts) if not Path(edits.name).is_absolute() else Path(path.name)
        target = into / relative
        if target in targets.values() and targets.get(path) != target:
            target = into / str(len(targets)) / relative
        targets.setdefault(path, target)
    return targets


def _put(source: Path, target: Path) -> None:
    """Put a file in the place of another at once; it keeps the permissions of that."""
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(source, new)
        if target.exists():
            shutil.copymode(target, new)
        sync(new)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
