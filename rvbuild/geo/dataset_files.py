"""The files of a dataset, as reported by GDAL; planning asks for them in a worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from rvbuild.errors import DataError
from rvbuild.geo.gdal import admission, references

RASTER, VECTOR = "raster", "vector"
"""How a file is read."""


class DatasetFiles(TypedDict):
    """The files that belong to a file; none if it cannot be opened, which reading it will report."""

    files: list[str]
    """Its other parts."""
    sources: list[str]
    """Datasets that it refers to, which may have files of their own."""
    complete: bool
    """Whether GDAL could list all of them."""


def ask(questions: Sequence[tuple[str, str]]) -> list[DatasetFiles]:
    """Return the files that belong to each file.

    Parameters
    ----------
    questions
        (`RASTER` or `VECTOR`, absolute path) of each file.
    """
    return [_raster(Path(path)) if kind == RASTER else _vector(Path(path)) for kind, path in questions]


def _answer(files: Sequence[Path] = (), sources: Sequence[Path] = (), complete: bool = True) -> DatasetFiles:
    named = [path for path in dict.fromkeys(files) if path not in sources]
    return {"files": [*map(str, named)], "sources": [*map(str, sources)], "complete": complete}


def _raster(path: Path) -> DatasetFiles:
    from rvbuild.geo.raster.file import open_dataset  # not needed for vectors

    sources: tuple[Path, ...] = ()
    try:
        admission.require_places(path)
        if path.suffix.lower() == references.VIRTUAL:
            sources = references.of_virtual(path)
        with open_dataset(path) as dataset:
            named, virtual = dataset.files, dataset.driver == "VRT"
    except DataError:
        return _answer(sources=sources, complete=False)
    files: list[Path] = []
    more: list[Path] = []
    for name in named:
        file = references.resolve(path, os.path.abspath(name) if os.path.lexists(name) else name)  # noqa: PTH100
        if file == path or file in sources:
            continue
        (more if virtual and not _beside(path, file) else files).append(file)
    return _answer(files, (*sources, *dict.fromkeys(more)))


def _beside(path: Path, other: Path) -> bool:
    return other.parent == path.parent and other.name.lower().startswith(path.stem.lower())


def _vector(path: Path) -> DatasetFiles:
    suffix = path.suffix.lower()
    try:
        admission.require_places(path)
        if suffix == references.VIRTUAL:
            return _answer(sources=references.of_virtual(path))
        return _answer(references.of_table(path) if suffix == ".tab" else references.of_gml(path))
    except DataError:
        return _answer(complete=False)
