"""Vectors of classes, from a raster of class ids to polygons, buildings or points in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.files.formats import SUFFIXES
from rvbuild.geo.classes import Classes, id_of
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.windows import Window
from rvbuild.geo.write.qgis import write_vector_style
from rvbuild.geo.write.vectors.buildings import outlines
from rvbuild.geo.write.vectors.features import GeometryType, write_batches
from rvbuild.geo.write.vectors.measures import mean_scores, measures, sizes
from rvbuild.geo.write.vectors.regions import Geometries, Regions
from rvbuild.settings.predict import VectorSettings

_RASTERS = ("labels", "scores", "rgb")
_FIELDS = {"class_id": int, "class_name": str}


def vectorize(
    labels_tif: Path,
    classes: Classes,
    nodata: int,
    specs: Sequence[VectorSettings],
    out_dir: Path,
    scores_tif: Path | None = None,
) -> list[Path]:
    """Write the vectors of classes, one file for each entry of `predict.vectors`, and return the files.

    Borders follow the edges of pixels, holes are preserved, and regions that only touch at a corner are two polygons.
    Each feature has the properties `class_id` and `class_name`, those of
    `rvbuild.geo.write.vectors.measures.sizes`, and with scores `score`, the mean probability of the class in its
    pixels, null if it holds the centre of none. A point has those of its polygon.

    Parameters
    ----------
    labels_tif
        One band of uint8 class ids.
    classes
        All classes in id order.
    nodata
        The value of pixels that belong to no feature of any class.
    specs
        Each with `class`, and `file` or `format` (see `SUFFIXES`); with, applied in this order:

        `denoise_px`: patches of fewer than denoise_px x denoise_px pixels, of any class, go to their largest neighbour.
        `simplify_px`: tolerance; borders that classes share are simplified alike, so that no gaps open between them.
        `kind`: `polygons`; `buildings`, by `split` and `side_px` (see
        `rvbuild.geo.write.vectors.buildings.outlines`); or `points`, one in each polygon: its centre of mass, or if
        that lies outside, a point inside.
        `min_area_units`: smaller polygons are left out, in square units of the CRS (square pixels without one).
    out_dir
        Where the files go, and their styles, `.qml`. Without `file` they are called as the class. A class that is
        called as a raster beside them gets a `_` at the end, because the rasters have styles too.
    scores_tif
        The raster of scores, a band for each class that the model predicts, with its name as description; or None.
    """
    with open_dataset(labels_tif) as dataset:
        grid = grid_of(labels_tif, dataset)
    written = files_of(specs, out_dir)
    with Regions(labels_tif, nodata, out_dir) as regions:
        for path, spec in zip(written, specs, strict=True):
            write_whole(path, regions, classes, spec, grid, scores_tif)
    return written


def files_of(specs: Sequence[VectorSettings], out_dir: Path) -> list[Path]:
    """Return the file of each entry of `predict.vectors`.

    Raises
    ------
    DataError
        Two entries have the same one.
    """
    paths: list[Path] = []
    for spec in specs:
        path = out_dir / (spec.get("file") or _file_stem(spec["class"]) + SUFFIXES[spec.get("format", "geojson")])
        if path in paths:
            raise DataError(f"predict.vectors: two entries would write {path.name}; give one of them another `file`")
        paths.append(path)
    return paths


def write_whole(
    path: Path, regions: Regions, classes: Classes, spec: VectorSettings, grid: Grid, scores_tif: Path | None
) -> None:
    """Write the vectors of one entry of `predict.vectors`, and their style; see `vectorize`."""
    class_id, kind = class_of(spec, classes), spec.get("kind", "polygons")
    batches = regions.batches(class_id, spec.get("denoise_px", 0), spec.get("simplify_px", 0.0))
    if kind == "buildings":
        outlined = (outlines(patches, spec["split"], spec["side_px"]) for patches in batches)
        # Outlines may overlap, and a pixel's score counts for one of them: that may be of another batch.
        batches = outlined if scores_tif is None else _joined(outlined)
    features = (features_of(shapes, spec, class_id, grid, scores_tif) for shapes in batches)
    batches_of = ((found.shapes, found.properties) for found in features)
    write_batches(path, batches_of, grid, fields_of(grid, scores_tif), geometry_of(spec))
    write_style(path, spec, classes)


def write_style(path: Path, spec: VectorSettings, classes: Classes) -> None:
    """Write the style of the vectors of one entry of `predict.vectors`."""
    write_vector_style(path, [classes[class_of(spec, classes)]], "point" if geometry_of(spec) == "Point" else "polygon")


def class_of(spec: VectorSettings, classes: Classes) -> int:
    """Return the id of the class of an entry of `predict.vectors`."""
    return id_of(classes, spec["class"], "predict.vectors")


def geometry_of(spec: VectorSettings) -> GeometryType:
    """Return the type of the geometries of an entry of `predict.vectors`."""
    return "Point" if spec.get("kind") == "points" else "Polygon"


class Features(NamedTuple):
    """Features of a class, in pixel coordinates."""

    polygons: Geometries
    """(N,) that they are made of."""
    shapes: Geometries
    """(N,) polygons or points."""
    properties: list[dict[str, object]]


def fields_of(grid: Grid, scores_tif: Path | None) -> dict[str, type]:
    """Return the names and the types of the properties of features."""
    scores = {} if scores_tif is None else {"score": float}
    return {**_FIELDS, **dict.fromkeys(measures(grid), float), **scores}


def features_of(
    polygons: Geometries, spec: VectorSettings, class_id: int, grid: Grid, scores_tif: Path | None
) -> Features:
    """Return the features of polygons (N,) in pixel coordinates, without those that are too small."""
    pixel_area = abs(grid.transform.determinant)
    large = polygons[shapely.area(polygons) * pixel_area >= spec.get("min_area_units", 0.0)]
    measured = {key: values.tolist() for key, values in sizes(large, grid).items()}
    if scores_tif is not None:
        measured["score"] = _scores(scores_tif, spec["class"], large)
    properties: list[dict[str, object]] = [
        {"class_id": class_id, "class_name": spec["class"], **dict(zip(measured, values, strict=True))}
        for values in zip(*measured.values(), strict=True)
    ]
    return Features(large, _centres(large) if spec.get("kind") == "points" else large, properties)


def _joined(batches: Iterable[Geometries]) -> Iterator[Geometries]:
    """Yield all geometries at once."""
    yield np.concatenate([np.empty(0, dtype=object), *batches])


def _scores(scores_tif: Path, class_name: str, polygons: Geometries) -> list[float | None]:
    """Return the mean score of the pixels of each polygon, to 4 decimals; None for one without a pixel."""
    with open_dataset(scores_tif) as dataset:
        band = dataset.descriptions.index(class_name) + 1
        scale = dataset.scales[band - 1]

        def read(window: Window) -> NDArray[np.float64]:
            part = ((window.row, window.row_stop), (window.col, window.col_stop))
            values: NDArray[np.float64] = dataset.read(band, window=part, masked=True).astype(np.float64).filled(np.nan)
            values *= scale
            return values

        means = mean_scores(polygons, dataset.height, dataset.width, read)
    return [None if np.isnan(mean) else round(float(mean), 4) for mean in means]


def _centres(geometries: Geometries) -> Geometries:
    """Return a point (N,) in each polygon: its centroid if that lies inside."""
    centres = shapely.centroid(geometries)
    inside: Geometries = np.where(shapely.contains(geometries, centres), centres, shapely.point_on_surface(geometries))
    return inside


def _file_stem(name: str) -> str:
    """Return the class name as it appears in file names: characters with a meaning in paths or patterns become `_`."""
    stem = re.sub(r"[^\w.\- ]", "_", name).strip(". ") or "_"
    return f"{stem}_" if stem.casefold() in _RASTERS else stem
