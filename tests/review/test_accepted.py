"""Accepted verdicts as files hold them, and outlines that users have corrected."""

import contextlib
import sqlite3

import pytest
import shapely

from rvbuild.errors import DataError, UsageError
from rvbuild.review import geopackage
from rvbuild.review.accepted import read_accepted
from rvbuild.review.shapes import area_of, rings_of
from rvbuild.review.table import GEOJSON, TABLE, placed, write_table
from rvbuild.review.verdicts import Decision, set_verdict
from tests.review.conftest import GRID
from tests.review.test_table import ids, rows

PROPOSED = shapely.box(3.125, 4, 9, 12)


@pytest.fixture
def table(tmp_path):
    write_table(tmp_path, rows(1, 2, kind="outline", proposed_polygon=rings_of(PROPOSED)))
    set_verdict(tmp_path / TABLE, ids(2)[0], "accept")
    return tmp_path / TABLE


def test_accepted_ones_are_read_exactly(table):
    (found,) = read_accepted(table)
    assert (found.id, found.scene, found.kind, found.digest) == (ids(2)[0], "a", "outline", f"{2:016x}")
    assert (found.label_class, found.file, found.layer, found.feature) == ("crown", "labels/a.gpkg", "crowns", "2")
    assert found.outline(GRID) == rings_of(PROPOSED)
    write_table(table.parent, rows(1, 2, kind="outline", proposed_polygon=rings_of(PROPOSED)))
    (of_geojson,) = read_accepted(table.parent / GEOJSON)
    assert of_geojson.outline(GRID) == rings_of(PROPOSED)
    assert of_geojson.digest == found.digest


def test_newer_verdicts_count_instead_of_those_in_the_file(table):
    newer = {ids(1)[0]: Decision("accept", ""), ids(2)[0]: Decision("reject", ""), ids(9)[0]: Decision("accept", "")}
    assert [each.id for each in read_accepted(table, newer)] == ids(1)
    assert [each.id for each in read_accepted(table)] == ids(2)


def test_a_corrected_outline_counts(table):
    corrected = shapely.box(2, 4, 9, 13)
    with geopackage.changed(table) as database:
        described = geopackage.feature_table(database, table, "proposals")
        blob = geopackage.blob_of(placed(corrected, GRID, GRID.crs), described.srs_id)
        database.execute("update proposals set geom = ?", (blob,))
    (found,) = read_accepted(table)
    assert area_of(found.outline(GRID)).equals_exact(corrected.normalize(), 1e-6) or area_of(
        found.outline(GRID)
    ).symmetric_difference(corrected).area == pytest.approx(0, abs=1e-6)


def test_what_is_no_verdict_is_refused(table):
    with geopackage.changed(table) as database:
        database.execute("update suspects set verdict = 'acept' where id = ?", ids(1))
    with pytest.raises(DataError, match=r"found 0000000000000001: 'acept'; did you mean \"accept\"\?"):
        read_accepted(table)


def test_other_files_are_refused(tmp_path, table):
    with pytest.raises(UsageError, match="there is no such file"):
        read_accepted(tmp_path / "x.gpkg")
    with pytest.raises(UsageError, match=r"expected the suspects of a review with verdicts, \.gpkg or \.geojson"):
        (tmp_path / "x.csv").write_text("id\n")
        read_accepted(tmp_path / "x.csv")
    with contextlib.closing(sqlite3.connect(tmp_path / "y.gpkg", isolation_level=None)) as database:
        database.execute("create table x (a)")
    with pytest.raises(DataError, match="as a GeoPackage"):
        read_accepted(tmp_path / "y.gpkg")
    (tmp_path / "labels.geojson").write_text('{"features": [{"properties": {"kind": "tree"}}]}')
    with pytest.raises(DataError, match="no column `verdict`, so it is no table of suspects"):
        read_accepted(tmp_path / "labels.geojson")
