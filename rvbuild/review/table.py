"""The files of suspects that users edit: `suspects.gpkg`, and the same as `suspects.geojson`.

The GeoPackage has a layer `suspects`, a layer `proposals` with the outlines that would be right, and a table of earlier
verdicts. It is created once; later reviews change its rows in one transaction, so that a program that has it open keeps
seeing it, and no verdict is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry
import xxhash
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.files.durable import sync
from rvbuild.geo.grid import Grid, is_local, reproject
from rvbuild.geo.vector.lonlat import to_lon_lat
from rvbuild.geo.write.vectors.layer import write_layer
from rvbuild.review import geopackage, verdicts
from rvbuild.review.shapes import area_of
from rvbuild.review.suspect import Rings, Suspect
from rvbuild.review.verdicts import EARLIER, LAYER, UNDECIDED, Decision

TABLE, GEOJSON = "suspects.gpkg", "suspects.geojson"

PROPOSALS = "proposals"

FIELDS: Mapping[str, type] = {
    "id": str,
    "scene": str,
    "kind": str,
    "score": float,
    "gain": float,
    "class": str,
    "proposed_class": str,
    "reason": str,
    "file": str,
    "layer": str,
    "feature_id": str,
    "verdict": str,
    "note": str,
    "label_digest": str,
    "proposed_px": str,
    "label_px": str,
}
"""The columns. The last three are for `rvbuild review --apply`: what the label was, and as JSON, rings of (column,
row), the outline that is proposed and, in label rasters, the area that is suspected."""

_OF_USERS = ("verdict", "note")
_KEPT_IF_DECIDED = (*_OF_USERS, "proposed_class")
"""Columns that a later review leaves alone if there is a verdict: users may correct what is proposed."""

_EARLIER_COLUMNS = (
    *("scene", "kind", "class", "proposed_class", "reason", "file", "layer", "feature_id", "verdict", "note"),
)


@dataclass(frozen=True)
class Row:
    """A suspect with what users need to find it."""

    suspect: Suspect
    grid: Grid
    """Of its scene."""
    file: str | None = None
    """The label file, as the project names it; None for `missing`."""
    layer: str | None = None
    feature: str | None = None
    """The id of the feature, or its place in the file, from 0; None in label rasters."""
    digest: str | None = None
    """What the label is now; see `rvbuild.review.suspect.fingerprint`."""


def write_table(folder: Path, rows: Sequence[Row]) -> dict[str, Decision]:
    """Write or renew the table of suspects in a folder; return the decision about each, by its id.

    Parameters
    ----------
    folder
        Exists, and may hold those of an earlier review, with verdicts.
    rows
        The suspects, best first.

    Raises
    ------
    DataError
        Another program locks the file. Nothing was changed then.
    """
    path, from_geojson = folder / TABLE, edited_verdicts(folder / GEOJSON)
    work = folder / f".new-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        made = work / TABLE
        _write_layers(made, rows)
        if path.exists():
            _renew(path, made, verdicts.read_unsaved(folder))
        else:
            with geopackage.changed(made) as database:
                _add_earlier(database)
            sync(made)
            made.replace(path)
            sync(folder)
        if from_geojson:
            with geopackage.changed(path) as database:
                _take_over(database, from_geojson)
        decided = verdicts.read_verdicts(path)
        written = work / GEOJSON
        _write_geojson(written, rows, decided)
        written.replace(folder / GEOJSON)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return decided


def crs_of(grids: Iterable[Grid]) -> CRS | None:
    """Return the CRS of the table: that of the first scene that has one on the globe, or else of the first with any."""
    known = [grid.crs for grid in grids if grid.crs is not None]
    return next((crs for crs in known if not is_local(crs)), known[0] if known else None)


def placed(shape: Any, grid: Grid, crs: CRS | None) -> Any:
    """Return a shape in pixels of a scene in a CRS; in map coordinates of the scene if there is no way to that CRS."""
    points = shapely.get_coordinates(shape)
    x, y = grid.to_map(points[:, 0], points[:, 1])
    if crs is not None and grid.crs is not None:
        with contextlib.suppress(DataError):  # a local CRS, or another part of the world
            x, y = reproject("suspects", grid.crs, crs, x, y)
    return shapely.set_coordinates(shape, np.stack([x, y], axis=1))


def in_pixels(shape: Any, grid: Grid, crs: CRS | None) -> Any:
    """Return a shape of the table in pixels of a scene: the inverse of `placed`."""
    points = shapely.get_coordinates(shape)
    x, y = points[:, 0], points[:, 1]
    if crs is not None and grid.crs is not None:
        with contextlib.suppress(DataError):
            x, y = reproject("suspects", crs, grid.crs, x, y)
    return shapely.set_coordinates(shape, np.stack(grid.to_pixel(x, y), axis=1))


def edited_verdicts(path: Path) -> dict[str, Decision]:
    """Return the verdicts of a `suspects.geojson` that somebody has edited since it was written; empty otherwise."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        entries = [feature["properties"] for feature in content["features"]]
        decided = {
            str(entry["id"]): Decision(verdicts.cleaned(entry.get("verdict")), str(entry.get("note") or ""))
            for entry in entries
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}
    if content.get("verdicts_digest") == _digest(decided):
        return {}
    return {key: decision for key, decision in decided.items() if decision.verdict or decision.note}


def _digest(decided: Mapping[str, Decision]) -> str:
    return str(xxhash.xxh3_64_hexdigest(json.dumps(sorted(decided.items())).encode()))


def values_of(row: Row, decision: Decision = UNDECIDED) -> dict[str, Any]:
    """Return the values of a row, by column."""
    suspect = row.suspect
    proposed: Rings | None = suspect.proposed_polygon
    in_raster = suspect.source is not None and suspect.source.place is None
    return {
        "id": suspect.id,
        "scene": suspect.scene,
        "kind": suspect.kind,
        "score": suspect.score,
        "gain": suspect.gain,
        "class": suspect.label_class,
        "proposed_class": suspect.proposed_class,
        "reason": suspect.reason,
        "file": row.file,
        "layer": row.layer,
        "feature_id": row.feature,
        "verdict": decision.verdict,
        "note": decision.note,
        "label_digest": row.digest,
        "proposed_px": None if proposed is None else json.dumps(proposed, separators=(",", ":")),
        "label_px": json.dumps(suspect.polygon, separators=(",", ":")) if in_raster else None,
    }


def _write_layers(path: Path, rows: Sequence[Row]) -> None:
    crs = crs_of(row.grid for row in rows)
    proposing = [row for row in rows if row.suspect.proposed_polygon is not None]
    layers: list[tuple[str, list[Any], list[dict[str, Any]], Mapping[str, type]]] = [
        (LAYER, [_placed(row, row.suspect.polygon, crs) for row in rows], [values_of(row) for row in rows], FIELDS),
        (
            PROPOSALS,
            [_placed(row, row.suspect.proposed_polygon or (), crs) for row in proposing],
            [{"id": row.suspect.id} for row in proposing],
            {"id": str},
        ),
    ]
    for name, shapes, properties, fields in layers:
        features = zip(shapes, properties, strict=True)
        write_layer(path, features, fields, geometry="MultiPolygon", crs=crs, layer=name)


def _placed(row: Row, rings: Rings, crs: CRS | None) -> Any:
    shape = placed(area_of(rings), row.grid, crs)
    parts = shapely.get_parts(shapely.orient_polygons(shape))
    return shapely.MultiPolygon(list(parts))


def _add_earlier(database: sqlite3.Connection) -> None:
    """Add the table of earlier verdicts."""
    database.execute(
        f"create table {EARLIER} (fid integer primary key autoincrement not null, id text unique not null, "
        f"{', '.join(f'{name} text' for name in _EARLIER_COLUMNS)})"
    )
    database.execute(
        "insert into gpkg_contents (table_name, data_type, identifier, last_change) "
        "select ?1, 'attributes', ?1, last_change from gpkg_contents where table_name = ?2",
        (EARLIER, LAYER),
    )


def _renew(path: Path, made: Path, unsaved: Mapping[str, Decision]) -> None:
    """Bring the rows of a table up to date with those of another, and take over verdicts, in one transaction."""
    with geopackage.read(made) as source:
        srs = source.execute("select * from gpkg_spatial_ref_sys").fetchall()
        tables = {name: geopackage.feature_table(source, made, name) for name in (LAYER, PROPOSALS)}
        content = {name: _rows(source, table) for name, table in tables.items()}
    with geopackage.changed(path) as database:
        database.executemany(
            "insert into gpkg_spatial_ref_sys values (?, ?, ?, ?, ?, ?) on conflict (srs_id) do update set "
            "definition = excluded.definition, srs_name = excluded.srs_name",
            srs,
        )
        database.execute("create temporary table now (id text primary key)")
        ids = {values["id"] for values, _ in content[LAYER]}
        database.executemany("insert into now values (?)", [(suspect_id,) for suspect_id in ids])
        for key, decision in unsaved.items():
            database.execute(
                f"update {LAYER} set verdict = ?, note = ? where id = ?", (decision.verdict, decision.note, key)
            )
        _keep_earlier(database)
        decided = {key for key, decision in verdicts.decisions(database).items() if decision.verdict}
        earlier = verdicts.decisions(database, EARLIER)
        for name, made_table in tables.items():
            table = geopackage.feature_table(database, path, name)
            for column in set(made_table.columns) - set(table.columns):  # an earlier release had fewer
                database.execute(f"alter table {name} add column {geopackage.quoted(column)} text")
            for contents in ("gpkg_geometry_columns", "gpkg_contents"):
                database.execute(
                    f"update {contents} set srs_id = ? where table_name = ?", (made_table.srs_id, table.name)
                )
            database.execute(f"delete from {name} where id is not null and id not in (select id from now)")
            known = {key for (key,) in database.execute(f"select id from {name}")}
            for values, blob in content[name]:
                if values["id"] not in known:
                    _insert(database, table, {**values, table.geometry: blob})
                elif name == PROPOSALS:
                    if values["id"] not in decided:
                        _update(database, table, {"id": values["id"], table.geometry: blob})
                else:
                    left = _KEPT_IF_DECIDED if values["id"] in decided else _OF_USERS
                    computed = {key: value for key, value in values.items() if key not in left}
                    _update(database, table, {**computed, table.geometry: blob})
            geopackage.touch(database, table, [geopackage.shape_of(blob) for _, blob in content[name]])
        _take_over(database, {key: decision for key, decision in earlier.items() if key in ids})
        database.execute(f"delete from {EARLIER} where id in (select id from now)")


def _keep_earlier(database: sqlite3.Connection) -> None:
    """Move what users have said about suspects that there are no more to the table of earlier verdicts."""
    if not verdicts.has_table(database, EARLIER):
        _add_earlier(database)
    columns = ", ".join(("id", *_EARLIER_COLUMNS))
    database.execute(
        f"insert or replace into {EARLIER} ({columns}) select {columns} from {LAYER} "
        "where id is not null and id not in (select id from now) "
        "and (coalesce(verdict, '') != '' or coalesce(note, '') != '')"
    )


def _take_over(database: sqlite3.Connection, decided: Mapping[str, Decision]) -> None:
    """Set decisions about suspects of which nothing is decided yet."""
    database.executemany(
        f"update {LAYER} set verdict = ?, note = ? where id = ? and coalesce(verdict, '') = '' "
        "and coalesce(note, '') = ''",
        [(decision.verdict, decision.note, key) for key, decision in decided.items()],
    )


def _rows(database: sqlite3.Connection, table: geopackage.FeatureTable) -> list[tuple[dict[str, Any], bytes]]:
    names = ", ".join(map(geopackage.quoted, (table.geometry, *table.columns)))
    rows = database.execute(f"select {names} from {geopackage.quoted(table.name)} order by {table.key}")
    return [(dict(zip(table.columns, values, strict=True)), blob) for blob, *values in rows]


def _insert(database: sqlite3.Connection, table: geopackage.FeatureTable, values: Mapping[str, Any]) -> None:
    names = ", ".join(map(geopackage.quoted, values))
    marks = ", ".join("?" * len(values))
    database.execute(f"insert into {geopackage.quoted(table.name)} ({names}) values ({marks})", tuple(values.values()))


def _update(database: sqlite3.Connection, table: geopackage.FeatureTable, values: Mapping[str, Any]) -> None:
    settings = ", ".join(f"{geopackage.quoted(name)} = ?" for name in values)
    database.execute(
        f"update {geopackage.quoted(table.name)} set {settings} where id = ?", (*values.values(), values["id"])
    )


def _write_geojson(path: Path, rows: Sequence[Row], decided: Mapping[str, Decision]) -> None:
    """Write suspects in longitude and latitude, or as their scene has it if that is nowhere on the globe."""
    lines, written = [], {}
    for row in rows:
        grid, shape = row.grid, area_of(row.suspect.polygon)
        somewhere = grid.crs is not None and not is_local(grid.crs)
        there = to_lon_lat("suspects", np.array([shape]), grid)[0] if somewhere else placed(shape, grid, None)
        decision = written[row.suspect.id] = decided.get(row.suspect.id, UNDECIDED)
        feature = {
            "type": "Feature",
            "properties": values_of(row, decision),
            "geometry": shapely.geometry.mapping(shapely.orient_polygons(there)),
        }
        lines.append(json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
    head = f'{{"type":"FeatureCollection","verdicts_digest":"{_digest(written)}","features":[\n'
    path.write_text(head + ",\n".join(lines) + "\n]}\n", encoding="utf-8")
