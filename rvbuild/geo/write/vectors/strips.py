"""Vectors of a large scene from its strips of rows, with the bytes that they have when the scene is read at once.

A strip has the features of the regions that end inside it. Those that touch a seam are found when strips are joined, in
the rows that such regions reach: few rows if regions are small, the whole scene if a region crosses all of it. Both are
in the order of the last corners of their regions, in which they are merged.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.write.vectors.features import lines, write_lines
from rvbuild.geo.write.vectors.polygons import (
    class_of,
    features_of,
    fields_of,
    files_of,
    geometry_of,
    write_style,
    write_whole,
)
from rvbuild.geo.write.vectors.regions import Geometries, Regions, last_corners
from rvbuild.settings.predict import VectorSettings


class _Line(NamedTuple):
    """A feature in the order of the file."""

    row: int
    col: int
    """Of the last corner of its region."""
    text: str
    """As `rvbuild.geo.write.vectors.features.lines` returns it."""


class _Seams(NamedTuple):
    """How far regions reach that touch the seams of a strip, as rows of the scene."""

    down: int
    """The end of the lowest region that touches the first row."""
    up: int
    """The begin of the highest region that touches the last row."""


_SEAMS = "seams.json"


def in_strips(spec: VectorSettings) -> bool:
    """Tell whether an entry of `predict.vectors` can be made of strips.

    Sieved and simplified regions depend on those far away, and outlines of buildings on others that they overlap.
    """
    whole = spec.get("denoise_px", 0) > 1 or spec.get("simplify_px", 0.0) > 0 or spec.get("kind") == "buildings"
    return not whole


def write_strip(
    labels_tif: Path,
    classes: Classes,
    nodata: int,
    specs: Sequence[VectorSettings],
    rows: tuple[int, int],
    out_dir: Path,
    scores_tif: Path | None = None,
) -> None:
    """Write the features of a strip for each entry of `predict.vectors` that can be made of strips.

    Parameters
    ----------
    rows
        The first row of the strip, and the one after its last.
    out_dir
        Receives `vectors-0.txt`, `vectors-1.txt` and so on, by the number of the entry, and `seams.json`.
    labels_tif, classes, nodata, specs, scores_tif
        As for `rvbuild.geo.write.vectors.polygons.vectorize`.
    """
    with open_dataset(labels_tif) as dataset:
        grid = grid_of(labels_tif, dataset)
    paths, seams = files_of(specs, out_dir), dict[str, _Seams]()
    with Regions(labels_tif, nodata, out_dir) as regions:
        for number, (spec, path) in enumerate(zip(specs, paths, strict=True)):
            if not in_strips(spec):
                continue
            first, stop = rows
            class_id, down, up = class_of(spec, classes), first, stop
            with (out_dir / _name(number)).open("w", encoding="utf-8", newline="\n") as file:
                for polygons in regions.of_rows(class_id, rows):
                    top, bottom = _extent(polygons)
                    above = (top == first) & (first > 0)
                    below = (bottom == stop) & (stop < grid.height)
                    down = max([down, *bottom[above].tolist()])
                    up = min([up, *top[below].tolist()])
                    for line in _lines(polygons[~above & ~below], path, spec, class_id, grid, scores_tif):
                        file.write(f"{line.row}\t{line.col}\t{line.text}\n")
            seams[_name(number)] = _Seams(down, up)
    (out_dir / _SEAMS).write_text(json.dumps(seams) + "\n", encoding="utf-8")


def join_strips(
    strips: Sequence[Mapping[str, Path]],
    seams: Sequence[int],
    labels_tif: Path,
    classes: Classes,
    nodata: int,
    specs: Sequence[VectorSettings],
    out_dir: Path,
    scores_tif: Path | None = None,
) -> None:
    """Write the files of `rvbuild.geo.write.vectors.polygons.vectorize`.

    Parameters
    ----------
    strips
        The files of `write_strip` by name, for each strip from top to bottom.
    seams
        The first row of each strip but the first.
    labels_tif, classes, nodata, specs, out_dir, scores_tif
        As for `vectorize`.
    """
    with open_dataset(labels_tif) as dataset:
        grid = grid_of(labels_tif, dataset)
    reaches = [json.loads(files[_SEAMS].read_text(encoding="utf-8")) for files in strips]
    with Regions(labels_tif, nodata, out_dir) as regions:
        for number, (spec, path) in enumerate(zip(specs, files_of(specs, out_dir), strict=True)):
            if not in_strips(spec):
                write_whole(path, regions, classes, spec, grid, scores_tif)
                continue
            name, class_id = _name(number), class_of(spec, classes)
            across = (
                line
                for polygons in _across(regions, class_id, seams, [_Seams(*strip[name]) for strip in reaches])
                for line in _lines(polygons, path, spec, class_id, grid, scores_tif)
            )
            merged = heapq.merge((line for files in strips for line in _read(files[name])), across)
            write_lines(path, (line.text for line in merged), grid, fields_of(grid, scores_tif), geometry_of(spec))
            write_style(path, spec, classes)


def _across(regions: Regions, class_id: int, seams: Sequence[int], reaches: Sequence[_Seams]) -> Iterator[Geometries]:
    """Yield the regions of a class that touch a seam, in their order."""
    lines = np.array(seams)
    for rows in _ranges(seams, reaches):
        for polygons in regions.of_rows(class_id, rows):
            top, bottom = _extent(polygons)
            # Others are in a strip, or lie only partly in these rows.
            touching = np.searchsorted(lines, top) < np.searchsorted(lines, bottom, side="right")
            yield polygons[touching]


def _ranges(seams: Sequence[int], reaches: Sequence[_Seams]) -> Iterator[tuple[int, int]]:
    """Yield the rows that hold all regions that touch a seam, from top to bottom; ranges do not touch."""
    ranges: list[tuple[int, int]] = []
    for seam, above, below in zip(seams, reaches[:-1], reaches[1:], strict=True):
        first, stop = min(seam, above.up), max(seam, below.down)
        if first == stop:
            continue
        if ranges and first <= ranges[-1][1]:
            first, stop = min(first, ranges[-1][0]), max(stop, ranges.pop()[1])
        ranges.append((first, stop))
    yield from ranges


def _lines(
    polygons: Geometries, path: Path, spec: VectorSettings, class_id: int, grid: Grid, scores_tif: Path | None
) -> Iterator[_Line]:
    """Yield the features of polygons (N,) of a class as they are in a file."""
    if not len(polygons):
        return
    features = features_of(polygons, spec, class_id, grid, scores_tif)
    texts = lines(path, features.shapes, features.properties, grid)
    for (row, col), text in zip(last_corners(features.polygons).tolist(), texts, strict=True):
        yield _Line(row, col, text)


def _read(path: Path) -> Iterator[_Line]:
    """Yield the features of a strip."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            row, col, text = line.removesuffix("\n").split("\t", 2)
            yield _Line(int(row), int(col), text)


def _extent(polygons: Geometries) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row (N,) of each polygon, and the one after its last."""
    bounds = shapely.bounds(polygons)
    return bounds[:, 1].astype(np.int64), bounds[:, 3].astype(np.int64)


def _name(number: int) -> str:
    """Return the name of the file of an entry of `predict.vectors`."""
    return f"vectors-{number}.txt"
