"""GeoPackages as the SQLite databases that they are: rows are changed one by one, and all else stays as it is.

fiona can write layers anew and append to them, but neither changes nor removes a feature.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import shapely

from rvbuild.errors import DataError

WAIT_S = 5.0
"""How long to wait for a program that writes to the file."""

_EMPTY = 0x10
"""The flag of an empty geometry."""

_ENVELOPE_DOUBLES = (0, 4, 6, 6, 8)
"""By kind of envelope, how many numbers it has."""


class FeatureTable(NamedTuple):
    """A layer of features."""

    name: str
    key: str
    """The column with the ids of features."""
    geometry: str
    """The column with geometries."""
    type: str
    """The type of geometries, in upper case."""
    srs_id: int
    third: int
    """Whether geometries have a third dimension: 0 no, 1 all, 2 some."""
    measured: int
    """The same for measures."""
    columns: tuple[str, ...]
    """The other columns."""


@contextlib.contextmanager
def changed(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a GeoPackage for a block whose changes come about together, when it ends, or not at all.

    They are on the disk then, and survive a crash.

    Raises
    ------
    DataError
        The file is locked by another program, or is no database.
    """
    with _opened(path, "change") as database:
        database.execute("pragma synchronous = full")
        database.execute("begin immediate")
        try:
            yield database
        except BaseException:
            database.rollback()
            raise
        database.commit()


@contextlib.contextmanager
def read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a GeoPackage to read what it holds at one moment, also what another program has not written back yet.

    Raises
    ------
    DataError
        The file is locked by another program, or is no database.
    """
    with _opened(path, "read") as database:
        database.execute("begin")
        yield database


@contextlib.contextmanager
def _opened(path: Path, purpose: str) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        # No `isolation_level`: transactions are begun and ended here.
        with contextlib.closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as database:
            add_functions(database)
            yield database
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise DataError(
                f"{path}: another program is writing to it (QGIS, while edits are saved?). Nothing was changed; end "
                "editing there and try again"
            ) from error
        raise DataError(f"{path}: cannot {purpose} it as a GeoPackage: {error}") from error


def feature_table(database: sqlite3.Connection, path: Path, layer: str) -> FeatureTable:
    """Return the description of a layer.

    Raises
    ------
    DataError
        There is no such layer, or it has no column of ids.
    """
    row = database.execute(
        "select table_name, column_name, geometry_type_name, srs_id, z, m from gpkg_geometry_columns "
        "where lower(table_name) = lower(?)",
        (layer,),
    ).fetchone()
    if row is None:
        raise DataError(f'{path}: there is no layer "{layer}"')
    name, geometry, kind, srs_id, third, measured = row
    columns = database.execute(f"pragma table_info({quoted(name)})").fetchall()
    keys = [column[1] for column in columns if column[5]]
    if len(keys) != 1:
        raise DataError(f'{path}: the layer "{name}" has no column of ids, as a view has none; save it as a table')
    others = tuple(column[1] for column in columns if column[1] not in (keys[0], geometry))
    return FeatureTable(name, keys[0], geometry, str(kind).upper(), srs_id, third, measured, others)


def quoted(name: str) -> str:
    """Return a name of a table or a column as SQL."""
    return '"' + name.replace('"', '""') + '"'


def blob_of(shape: Any, srs_id: int) -> bytes:
    """Return a geometry that is not empty in the binary form of GeoPackages, with its envelope."""
    x0, y0, x1, y1 = shape.bounds
    # Little-endian (1), with an envelope of x and y (1 << 1).
    head = struct.pack("<2sBBi4d", b"GP", 0, 0b11, srs_id, x0, x1, y0, y1)
    body: bytes = shapely.to_wkb(shape, byte_order=1, flavor="iso")
    return head + body


def shape_of(blob: bytes) -> Any:
    """Return the geometry of its binary form.

    Raises
    ------
    ValueError
        It is none.
    """
    return shapely.from_wkb(blob[_head_bytes(blob) :])


def touch(database: sqlite3.Connection, table: FeatureTable, shapes: list[Any]) -> None:
    """Note that a layer has changed, and that it has these shapes now: widen the extent that is declared for it."""
    database.execute(
        "update gpkg_contents set last_change = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where table_name = ?",
        (table.name,),
    )
    if shapes:
        x0, y0, x1, y1 = shapely.total_bounds(shapes).tolist()
        database.execute(
            "update gpkg_contents set min_x = min(coalesce(min_x, ?1), ?1), min_y = min(coalesce(min_y, ?2), ?2), "
            "max_x = max(coalesce(max_x, ?3), ?3), max_y = max(coalesce(max_y, ?4), ?4) where table_name = ?5",
            (x0, y0, x1, y1, table.name),
        )


def _head_bytes(blob: bytes) -> int:
    """Return the length of what comes before the geometry itself."""
    kind = blob[3] >> 1 & 0b111
    if blob[:2] != b"GP" or kind >= len(_ENVELOPE_DOUBLES):
        raise ValueError("not a geometry of a GeoPackage")
    return 8 + 8 * _ENVELOPE_DOUBLES[kind]


def _is_empty(blob: bytes | None) -> int | None:
    return None if blob is None else int(bool(blob[3] & _EMPTY) or bool(shape_of(blob).is_empty))


def add_functions(database: sqlite3.Connection) -> None:
    """Add the functions that the triggers of spatial indexes call."""

    def bound(place: int) -> Any:
        return lambda blob: None if blob is None or _is_empty(blob) else float(shape_of(blob).bounds[place])

    database.create_function("ST_IsEmpty", 1, _is_empty, deterministic=True)
    for place, name in enumerate(("ST_MinX", "ST_MinY", "ST_MaxX", "ST_MaxY")):
        database.create_function(name, 1, bound(place), deterministic=True)
