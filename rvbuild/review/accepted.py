"""Accepted verdicts, as a table of suspects or an export of it holds them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import rasterio.crs
import shapely

from rvbuild.errors import DataError, UsageError, nearest
from rvbuild.geo.grid import Grid
from rvbuild.review import geopackage
from rvbuild.review.shapes import area_of, rings_of
from rvbuild.review.suspect import KINDS, Rings
from rvbuild.review.table import PROPOSALS, in_pixels, placed
from rvbuild.review.verdicts import LAYER, VERDICTS, Decision, cleaned

_SAME_PX = 0.01
"""Points of an outline that differ by less have not been edited."""


@dataclass(frozen=True)
class Accepted:
    """A suspect whose label is wrong, says a user."""

    id: str
    scene: str
    kind: str
    label_class: str | None
    proposed_class: str | None
    file: str | None
    layer: str | None
    feature: str | None
    digest: str | None
    """Of the label that was reviewed."""
    proposed: Rings | None
    """The outline that was proposed, in pixels of the scene."""
    polygon: Rings | None = None
    """In a label raster, the area that was reviewed, in pixels of the scene."""
    drawn: Any = None
    """The outline as it is in the table, where users may have edited it, in the CRS of the table."""
    crs: rasterio.crs.CRS | None = None

    def __str__(self) -> str:
        """Return the suspect as messages name it."""
        what = self.label_class if self.label_class is not None else self.proposed_class
        place = f", feature {self.feature} of {self.file}" if self.feature is not None else ""
        return f"suspect {self.id} ({self.kind}, {what}, scene {self.scene}{place})"

    def outline(self, grid: Grid) -> Rings | None:
        """Return the outline that is right, in pixels of the scene: as proposed, or as a user has edited it."""
        if self.drawn is None or self.drawn.is_empty:
            return self.proposed
        if self.proposed is not None:
            there = placed(area_of(self.proposed), grid, self.crs)
            back, original = (in_pixels(shape, grid, self.crs) for shape in (self.drawn, there))
            if shapely.equals_exact(back.normalize(), _multi(original).normalize(), tolerance=_SAME_PX):
                return self.proposed
        shape = in_pixels(self.drawn, grid, self.crs)
        if not shape.is_valid or shape.geom_type not in ("Polygon", "MultiPolygon"):
            raise DataError(f"{self}: its outline in `{PROPOSALS}` is not a valid polygon; repair it")
        return rings_of(shape)


def read_accepted(path: Path, newer: Mapping[str, Decision] = MappingProxyType({})) -> list[Accepted]:
    """Return the accepted suspects of a GeoPackage or a GeoJSON, in the order of the file.

    Parameters
    ----------
    path
        The file.
    newer
        Decisions that count instead of those in the file, by id of the suspect.

    Raises
    ------
    UsageError
        The file is of another kind.
    DataError
        It holds no suspects, or verdicts that are none.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    if suffix == ".gpkg":
        rows, drawn, crs = _of_geopackage(path)
    elif suffix in (".geojson", ".json"):
        rows, drawn, crs = _of_geojson(path), {}, None
    else:
        raise UsageError(f"{path}: expected the suspects of a review with verdicts, .gpkg or .geojson")
    if rows and not any("verdict" in row for row in rows):
        raise DataError(f"{path}: has no column `verdict`, so it is no table of suspects; expected one of a review")
    accepted, wrong = [], []
    for row in rows:
        decision = newer.get(str(row.get("id")))
        verdict = cleaned(row.get("verdict") if decision is None else decision.verdict)
        if verdict not in VERDICTS:
            wrong.append(f"{row.get('id')}: {row.get('verdict')!r}{nearest(verdict, VERDICTS)}")
        elif verdict == "accept":
            accepted.append(_accepted(path, row, drawn.get(str(row.get("id"))), crs))
    if wrong:
        raise DataError(f"{path}: expected the verdicts accept, reject or nothing, found {'; '.join(wrong[:5])}")
    if len({each.id for each in accepted}) < len(accepted):
        raise DataError(f"{path}: has the same suspect twice")
    return accepted


def _accepted(path: Path, row: Mapping[str, Any], drawn: Any, crs: rasterio.crs.CRS | None) -> Accepted:
    try:
        texts = {key: None if row[key] in (None, "") else str(row[key]) for key in _COLUMNS}
        if texts["id"] is None or texts["scene"] is None or texts["kind"] not in KINDS:
            raise ValueError("expected an id, a scene, and a kind of suspect")
        proposed, polygon = _rings(row.get("proposed_px")), _rings(row.get("label_px"))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: a row cannot be read as a suspect of a review: {error!r}. Keep all of its columns when you "
            "export it"
        ) from error
    return Accepted(
        texts["id"],
        texts["scene"],
        texts["kind"],
        texts["class"],
        texts["proposed_class"],
        texts["file"],
        texts["layer"],
        texts["feature_id"],
        texts["label_digest"],
        proposed,
        polygon,
        drawn,
        crs,
    )


def _rings(text: str | None) -> Rings | None:
    if not text:
        return None
    return tuple(tuple((float(x), float(y)) for x, y in ring) for ring in json.loads(text))


_COLUMNS = ("id", "scene", "kind", "class", "proposed_class", "file", "layer", "feature_id", "label_digest")


def _of_geopackage(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], rasterio.crs.CRS | None]:
    with geopackage.read(path) as database:
        table = geopackage.feature_table(database, path, LAYER)
        names = ", ".join(map(geopackage.quoted, table.columns))
        values = database.execute(f"select {names} from {LAYER} where id is not null order by {table.key}").fetchall()
        rows = [dict(zip(table.columns, row, strict=True)) for row in values]
        drawn = {}
        with contextlib.suppress(DataError):  # an export of the suspects alone
            outlines = geopackage.feature_table(database, path, PROPOSALS)
            geometry = geopackage.quoted(outlines.geometry)
            blobs = database.execute(
                f"select id, {geometry} from {PROPOSALS} where id is not null and {geometry} not null"
            )
            drawn = {str(key): geopackage.shape_of(blob) for key, blob in blobs}
        wkt = database.execute(
            "select definition from gpkg_spatial_ref_sys where srs_id = ? and srs_id > 0", (table.srs_id,)
        ).fetchone()
    return rows, drawn, None if wkt is None else rasterio.crs.CRS.from_wkt(wkt[0])


def _of_geojson(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return [dict(feature["properties"]) for feature in content["features"]]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{path}: cannot be read as GeoJSON: {error}") from error


def _multi(shape: Any) -> Any:
    return shapely.MultiPolygon(list(shapely.get_parts(shape)))
