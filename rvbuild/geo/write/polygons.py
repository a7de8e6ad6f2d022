"""Vectors of classes, from a raster of class ids to polygons, buildings or points in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.files.formats import DRIVERS, SUFFIXES
from rvbuild.geo.classes import Classes, id_of
from rvbuild.geo.grid import Grid, is_local
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.vector.lonlat import to_lon_lat
from rvbuild.geo.windows import Window
from rvbuild.geo.write.buildings import outlines
from rvbuild.geo.write.measures import mean_scores, measures, sizes
from rvbuild.geo.write.qgis import write_vector_style
from rvbuild.geo.write.regions import Geometries, Regions
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
    Each feature has the properties `class_id` and `class_name`, those of `rvbuild.geo.write.measures.sizes`, and with
    scores `score`, the mean probability of the class in its pixels, null if it holds the centre of none. A point has
    those of its polygon.

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
        `kind`: `polygons`; `buildings`, by `split` and `side_px` (see `rvbuild.geo.write.buildings.outlines`); or
        `points`, one in each polygon: its centre of mass, or if that lies outside, a point inside.
        `min_area_units`: smaller polygons are left out, in square units of the CRS (square pixels without one).
    out_dir
        Where the files go, and their styles, `.qml`. Without `file` they are called as the class. A class that is
        called as a raster beside them gets a `_` at the end, because the rasters have styles too.
    scores_tif
        The raster of scores, a band for each class that the model predicts, with its name as description; or None.
    """
    with open_dataset(labels_tif) as dataset:
        grid = grid_of(labels_tif, dataset)
    written: list[Path] = []
    with Regions(labels_tif, nodata, out_dir) as regions:
        for spec in specs:
            name, point = spec["class"], spec.get("kind") == "points"
            class_id = id_of(classes, name, "predict.vectors")
            path = out_dir / (spec.get("file") or _file_stem(name) + SUFFIXES[spec.get("format", "geojson")])
            if path in written:
                raise DataError(
                    f"predict.vectors: two entries would write {path.name}; give one of them another `file`"
                )
            fields = {**_FIELDS, **dict.fromkeys(measures(grid), float)}
            if scores_tif is not None:
                fields["score"] = float
            batches = _features(regions, spec, class_id, grid, scores_tif)
            write_batches(path, batches, grid, fields, "Point" if point else "Polygon")
            write_vector_style(path, [classes[class_id]], "point" if point else "polygon")
            written.append(path)
    return written


def _features(
    regions: Regions, spec: VectorSettings, class_id: int, grid: Grid, scores_tif: Path | None
) -> Iterator[tuple[Geometries, list[dict[str, object]]]]:
    """Yield the features of a class, some at a time: geometries (N,) in pixel coordinates, and their properties."""
    name, kind, pixel_area = spec["class"], spec.get("kind", "polygons"), abs(grid.transform.determinant)
    batches = regions.batches(class_id, spec.get("denoise_px", 0), spec.get("simplify_px", 0.0))
    if kind == "buildings":
        outlined = (outlines(patches, spec["split"], spec["side_px"]) for patches in batches)
        # Outlines may overlap, and a pixel's score counts for one of them: that may be of another batch.
        batches = outlined if scores_tif is None else _joined(outlined)
    for shapes in batches:
        large = shapes[shapely.area(shapes) * pixel_area >= spec.get("min_area_units", 0.0)]
        measured = {key: values.tolist() for key, values in sizes(large, grid).items()}
        if scores_tif is not None:
            measured["score"] = _scores(scores_tif, name, large)
        properties: list[dict[str, object]] = [
            {"class_id": class_id, "class_name": name, **dict(zip(measured, values, strict=True))}
            for values in zip(*measured.values(), strict=True)
        ]
        yield _centres(large) if kind == "points" else large, properties


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


def _to_map(geometries: Geometries, grid: Grid) -> Geometries:
    """Return geometries in map coordinates of the grid."""
    points = shapely.get_coordinates(geometries)
    moved: Geometries = shapely.set_coordinates(
        geometries.copy(), np.stack(grid.to_map(points[:, 0], points[:, 1]), axis=1)
    )
    return moved


def write_features(
    path: Path,
    geometries: Geometries,
    grid: Grid,
    properties: Sequence[Mapping[str, object]],
    fields: Mapping[str, type],
    geometry: Literal["Point", "Polygon"] = "Polygon",
) -> None:
    """Write features in the format of the file's suffix.

    GeoJSON is RFC 7946: in EPSG:4326, or in map or pixel coordinates where the scene has no CRS, or a local one. The
    other formats are in the CRS of the scene.

    Parameters
    ----------
    path
        Ends in one of `rvbuild.files.formats.SUFFIXES`.
    geometries
        (N,) polygons or points in pixel coordinates.
    grid
        The pixels.
    properties
        Of each feature.
    fields
        Name and type (int, float or str) of the properties.
    geometry
        The type of the geometries.
    """
    write_batches(path, [(geometries, properties)], grid, fields, geometry)


def write_batches(
    path: Path,
    batches: Iterable[tuple[Geometries, Sequence[Mapping[str, object]]]],
    grid: Grid,
    fields: Mapping[str, type],
    geometry: Literal["Point", "Polygon"] = "Polygon",
) -> None:
    """Write features as `write_features` does, from batches of geometries and their properties."""
    if path.suffix in DRIVERS:
        from rvbuild.geo.write.layer import write_layer  # imported late: GeoJSON needs no fiona

        features = (
            feature
            for geometries, properties in batches
            for feature in zip(shapely.orient_polygons(_to_map(geometries, grid)), properties, strict=True)
        )
        write_layer(path, features, fields, geometry=geometry, crs=grid.crs)
    else:
        _write_geojson(path, batches, grid)


def _write_geojson(
    path: Path, batches: Iterable[tuple[Geometries, Sequence[Mapping[str, object]]]], grid: Grid
) -> None:
    """Write a feature a line; fiona would round coordinates and add members that RFC 7946 has dropped."""
    stays = grid.crs is None or is_local(grid.crs)
    separator = ""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[\n')
        for geometries, properties in batches:
            placed = _to_map(geometries, grid) if stays else to_lon_lat("predict.vectors", geometries, grid)
            for geometry, values in zip(shapely.orient_polygons(placed), properties, strict=True):
                feature = {"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(geometry)}
                file.write(separator + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")


def _file_stem(name: str) -> str:
    """Return the class name as it appears in file names: characters with a meaning in paths or patterns become `_`."""
    stem = re.sub(r"[^\w.\- ]", "_", name).strip(". ") or "_"
    return f"{stem}_" if stem.casefold() in _RASTERS else stem
