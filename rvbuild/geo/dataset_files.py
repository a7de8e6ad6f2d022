"""The files of a dataset, as reported by GDAL; planning asks for them in a worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvbuild.errors import DataError
from rvbuild.geo.gdal import admission, references

RASTER, VECTOR = "raster", "vector"
"""How a file is read."""


def ask(questions: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the files that belong to each file.

    Parameters
    ----------
    questions
        (`RASTER` or `VECTOR`, absolute path) of each file.

    Returns
    -------
    list of dict
        `files`: those that the file consists of, beside itself; `sources`: datasets that it names, of which the same
        has to be asked; `complete`: whether GDAL could say all. What cannot be opened has no files: who reads it will
        say why.
    """
    return [_raster(Path(path)) if kind == RASTER else _vector(Path(path)) for kind, path in questions]


def _answer(files: Sequence[Path] = (), sources: Sequence[Path] = (), complete: bool = True) -> dict[str, Any]:
    named = [path for path in dict.fromkeys(files) if path not in sources]
    return {"files": [*map(str, named)], "sources": [*map(str, sources)], "complete": complete}


def _raster(path: Path) -> dict[str, Any]:
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
        one = references.resolve(path, os.path.abspath(name) if os.path.lexists(name) else name)  # noqa: PTH100
        if one == path or one in sources:
            continue
        (more if virtual and not _beside(path, one) else files).append(one)
    return _answer(files, (*sources, *dict.fromkeys(more)))


def _beside(path: Path, other: Path) -> bool:
    return other.parent == path.parent and other.name.lower().startswith(path.stem.lower())


def _vector(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    try:
        admission.require_places(path)
        if suffix == references.VIRTUAL:
            return _answer(sources=references.of_virtual(path))
        return _answer(references.of_table(path) if suffix == ".tab" else references.of_gml(path))
    except DataError:
        return _answer(complete=False)
