"""The table of suspects: what is in it, and that verdicts survive."""

import json
import sqlite3
import subprocess
import sys
import threading
import time

import fiona
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rvbuild.errors import DataError, UsageError
from rvbuild.geo.grid import Grid
from rvbuild.review import geopackage
from rvbuild.review.shapes import rings_of
from rvbuild.review.table import GEOJSON, TABLE, Row, in_pixels, placed, write_table
from rvbuild.review.verdicts import EARLIER, UNSAVED, Decision, decisions, read_verdicts, set_verdict
from tests.review.conftest import GRID
from tests.review.test_suspect import suspect


def rows(*numbers, grid=GRID, kind="class", **changes):
    shape = rings_of(shapely.box(3, 4, 9, 12.5))
    return [
        Row(suspect(kind, n, polygon=shape, **changes), grid, "labels/a.gpkg", "crowns", str(n), f"{n:016x}")
        for n in numbers
    ]


def ids(*numbers):
    return [f"{n:016x}" for n in numbers]


def column(path, name, layer="suspects"):
    with fiona.open(path, layer=layer) as collection:
        return [record.properties[name] for record in collection]


def test_the_columns_and_places_of_suspects(tmp_path):
    write_table(tmp_path, rows(1, kind="outline", proposed_polygon=rings_of(shapely.box(3, 4, 9, 12))))
    path = tmp_path / TABLE
    assert fiona.listlayers(path) == ["suspects", "proposals", "earlier_verdicts"]
    with fiona.open(path, layer="suspects") as collection:
        assert collection.crs.to_epsg() == 32633
        (record,) = collection
    assert dict(record.properties) == {
        "id": ids(1)[0],
        "scene": "a",
        "kind": "outline",
        "score": 0.75,
        "gain": 12.0,
        "class": "crown",
        "proposed_class": "crown",
        "reason": "the model sees ground, 0.93",
        "file": "labels/a.gpkg",
        "layer": "crowns",
        "feature_id": "1",
        "verdict": "",
        "note": "",
        "label_digest": f"{1:016x}",
        "proposed_px": "[[[9.0,4.0],[9.0,12.0],[3.0,12.0],[3.0,4.0],[9.0,4.0]]]",
        "label_px": None,
    }
    assert shapely.geometry.shape(record.geometry).bounds == (500001.5, 5799993.75, 500004.5, 5799998)
    with fiona.open(path, layer="proposals") as collection:
        (record,) = collection
        assert record.properties["id"] == ids(1)[0]
        assert shapely.geometry.shape(record.geometry).bounds == (500001.5, 5799994, 500004.5, 5799998)


def test_the_first_table_has_the_same_bytes_each_time(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, rows(1, 2))
    for file in (TABLE, GEOJSON):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [GEOJSON, TABLE]


def test_a_review_without_suspects(tmp_path):
    assert write_table(tmp_path, []) == {}
    assert column(tmp_path / TABLE, "id") == []
    write_table(tmp_path, rows(1))
    assert column(tmp_path / TABLE, "id") == ids(1)


@pytest.mark.parametrize(
    "grid",
    [
        GRID,
        Grid(40, 60, Affine(0.4, 0.3, 366000, 0.3, -0.4, 5810000), CRS.from_epsg(32634)),
        Grid(40, 60, Affine(1e-5, 0, 13.1, 0, -1e-5, 52.4), CRS.from_epsg(4326)),
        Grid(40, 60, Affine.identity(), None),
        Grid(40, 60, Affine(1, 0, 0, 0, -1, 0), CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')),
    ],
    ids=["same", "another zone", "degrees", "no CRS", "local"],
)
def test_places_go_to_the_table_and_back(grid):
    shape = shapely.box(3, 4, 9, 12.5)
    back = in_pixels(placed(shape, grid, GRID.crs), grid, GRID.crs)
    assert shape.equals_exact(back, tolerance=1e-3)


def test_a_verdict_is_set_and_undone(tmp_path):
    write_table(tmp_path, rows(1, 2))
    path = tmp_path / TABLE
    assert set_verdict(path, ids(2)[0], "accept", "a shadow") == Decision("", "")
    assert read_verdicts(path) == {ids(1)[0]: Decision("", ""), ids(2)[0]: Decision("accept", "a shadow")}
    former = set_verdict(path, ids(2)[0], "reject")
    assert former == Decision("accept", "a shadow")
    set_verdict(path, ids(2)[0], *former)
    assert read_verdicts(path)[ids(2)[0]] == former
    assert read_verdicts(tmp_path / "none.gpkg") == {}


def test_what_cannot_be_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there are no suspects yet"):
        set_verdict(tmp_path / TABLE, ids(1)[0], "accept")
    write_table(tmp_path, rows(1))
    with pytest.raises(UsageError, match="'acept' is no verdict; did you mean"):
        set_verdict(tmp_path / TABLE, ids(1)[0], "acept")
    with pytest.raises(UsageError, match="there is no suspect"):
        set_verdict(tmp_path / TABLE, ids(2)[0], "accept")
    (tmp_path / "a.gpkg").write_text("no database, but a text that is long enough to be looked at")
    with pytest.raises(DataError, match="as a GeoPackage"):
        read_verdicts(tmp_path / "a.gpkg")


def test_verdicts_are_carried_over_by_id(tmp_path):
    path = tmp_path / TABLE
    write_table(tmp_path, rows(1, 2, 3))
    set_verdict(path, ids(1)[0], "reject", "it is one")
    set_verdict(path, ids(2)[0], "accept")
    with geopackage.changed(path) as database:
        database.execute("update suspects set verdict = ' Accept ' where id = ?", ids(3))
        database.execute("alter table suspects add column who text")
        database.execute("update suspects set who = 'me' where id = ?", ids(1))
    write_table(tmp_path, rows(4, 1, 2, score=0.5))
    assert column(path, "id") == ids(1, 2, 4)
    assert column(path, "verdict") == ["reject", "accept", ""]
    assert column(path, "score") == [0.5] * 3
    assert column(path, "who") == ["me", None, None]
    assert column(path, "id", "earlier_verdicts") == ids(3)
    # What is suspected again has its verdict again.
    decided = write_table(tmp_path, rows(3))
    assert decided == {ids(3)[0]: Decision("accept", "")}
    assert column(path, "id", "earlier_verdicts") == ids(1, 2)
    assert column(path, "note", "earlier_verdicts") == ["it is one", ""]


def test_what_users_correct_stays_while_there_is_a_verdict(tmp_path):
    path = tmp_path / TABLE
    proposal = {"kind": "outline", "proposed_polygon": rings_of(shapely.box(3, 4, 9, 12))}
    write_table(tmp_path, rows(1, 2, **proposal))
    corrected = shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])
    with geopackage.changed(path) as database:
        database.execute("update suspects set proposed_class = 'oak'")
        table = geopackage.feature_table(database, path, "proposals")
        database.execute("update proposals set geom = ?", (geopackage.blob_of(corrected, table.srs_id),))
    set_verdict(path, ids(1)[0], "accept")
    write_table(tmp_path, rows(1, 2, **proposal))
    assert column(path, "proposed_class") == ["oak", "crown"]
    with fiona.open(path, layer="proposals") as collection:
        first, second = [shapely.geometry.shape(record.geometry) for record in collection]
    assert first.equals(corrected)
    assert second.bounds == (500001.5, 5799994, 500004.5, 5799998)


def test_verdicts_given_in_the_geojson_are_taken_over(tmp_path):
    write_table(tmp_path, rows(1, 2))
    set_verdict(tmp_path / TABLE, ids(1)[0], "accept")
    write_table(tmp_path, rows(1, 2))
    set_verdict(tmp_path / TABLE, ids(1)[0], "")
    # An old file that nobody has edited says nothing.
    assert write_table(tmp_path, rows(1, 2))[ids(1)[0]] == Decision("", "")
    path = tmp_path / GEOJSON
    content = json.loads(path.read_text())
    content["features"][1]["properties"]["verdict"] = "reject"
    path.write_text(json.dumps(content))
    assert write_table(tmp_path, rows(1, 2)) == {ids(1)[0]: Decision("", ""), ids(2)[0]: Decision("reject", "")}
    assert json.loads(path.read_text())["features"][1]["properties"]["verdict"] == "reject"


def test_what_the_page_could_not_save_is_taken_over(tmp_path):
    path, unsaved = tmp_path / TABLE, tmp_path / UNSAVED
    write_table(tmp_path, rows(1, 2, 3))
    set_verdict(path, ids(1)[0], "accept", "sure?")
    waiting = {ids(1)[0]: ["reject", "no"], ids(2)[0]: ["accept", ""], ids(9)[0]: ["accept", ""]}
    unsaved.write_text(json.dumps(waiting))
    assert write_table(tmp_path, rows(2, 3)) == {ids(2)[0]: Decision("accept", ""), ids(3)[0]: Decision("", "")}
    with geopackage.read(path) as database:
        assert decisions(database, EARLIER) == {ids(1)[0]: Decision("reject", "no")}
    assert json.loads(unsaved.read_text()) == waiting  # the page removes what it has saved
    assert set_verdict(path, ids(1)[0], "accept") == Decision("reject", "no")
    with geopackage.read(path) as database:
        assert decisions(database, EARLIER) == {ids(1)[0]: Decision("accept", "no")}


def test_a_scene_in_another_crs_gets_a_new_table_crs(tmp_path):
    write_table(tmp_path, rows(1))
    set_verdict(tmp_path / TABLE, ids(1)[0], "accept")
    degrees = Grid(40, 60, Affine(1e-5, 0, 13.1, 0, -1e-5, 52.4), CRS.from_epsg(4326))
    write_table(tmp_path, rows(1, grid=degrees))
    with fiona.open(tmp_path / TABLE, layer="suspects") as collection:
        assert collection.crs.to_epsg() == 4326
        (record,) = collection
    assert record.properties["verdict"] == "accept"
    assert shapely.geometry.shape(record.geometry).bounds == pytest.approx((13.10003, 52.399875, 13.10009, 52.39996))


def test_the_spatial_index_follows(tmp_path):
    write_table(tmp_path, rows(1))
    moved = [Row(suspect(polygon=rings_of(shapely.box(30, 30, 40, 40))), GRID)]
    write_table(tmp_path, moved)
    with fiona.open(tmp_path / TABLE, layer="suspects") as collection:
        assert len(list(collection.filter(bbox=(500015, 5799980, 500020, 5799985)))) == 1
        assert list(collection.filter(bbox=(500000, 5799990, 500005, 5800000))) == []


def test_a_program_that_writes_is_waited_for_and_nothing_is_lost(tmp_path, monkeypatch):
    write_table(tmp_path, rows(1))
    path = tmp_path / TABLE
    monkeypatch.setattr(geopackage, "WAIT_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    for change in (lambda: set_verdict(path, ids(1)[0], "accept"), lambda: write_table(tmp_path, rows(2))):
        with pytest.raises(DataError, match="another program is writing to it"):
            change()
    other.rollback()
    assert column(path, "id") == ids(1)
    monkeypatch.setattr(geopackage, "WAIT_S", 10.0)
    other.close()
    begun = threading.Event()

    def hold():
        with geopackage.changed(path):
            begun.set()
            time.sleep(0.1)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    set_verdict(path, ids(1)[0], "accept")
    thread.join()
    assert read_verdicts(path)[ids(1)[0]].verdict == "accept"


def test_a_file_that_qgis_has_open_is_read_with_what_is_not_written_back(tmp_path):
    write_table(tmp_path, rows(1, 2))
    path = tmp_path / TABLE
    qgis = sqlite3.connect(path, isolation_level=None)
    geopackage.add_functions(qgis)
    assert qgis.execute("pragma journal_mode = wal").fetchone() == ("wal",)
    qgis.execute("update suspects set verdict = 'accept' where id = ?", ids(1))
    assert path.with_name(f"{TABLE}-wal").stat().st_size > 0
    assert read_verdicts(path)[ids(1)[0]].verdict == "accept"
    set_verdict(path, ids(2)[0], "reject")
    write_table(tmp_path, rows(1, 2, score=0.1))
    assert qgis.execute("select verdict, score from suspects").fetchall() == [("accept", 0.1), ("reject", 0.1)]
    qgis.close()


@pytest.mark.slow
def test_a_verdict_survives_a_crash_right_after(tmp_path):
    write_table(tmp_path, rows(1))
    code = "import os, sys; from pathlib import Path; from rvbuild.review.verdicts import set_verdict; "
    code += "set_verdict(Path(sys.argv[1]), sys.argv[2], 'accept'); os._exit(9)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / TABLE), *ids(1)], check=False)
    assert done.returncode == 9
    assert read_verdicts(tmp_path / TABLE)[ids(1)[0]].verdict == "accept"


def test_a_review_that_fails_midway_changes_nothing(tmp_path, monkeypatch):
    write_table(tmp_path, rows(1))
    set_verdict(tmp_path / TABLE, ids(1)[0], "accept")

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(geopackage, "touch", fail)
    with pytest.raises(OSError, match="full"):
        write_table(tmp_path, rows(2))
    assert column(tmp_path / TABLE, "verdict") == ["accept"]
    assert column(tmp_path / TABLE, "id") == ids(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [GEOJSON, TABLE]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.sets(st.integers(1, 5))
        | st.tuples(st.integers(1, 5), st.sampled_from(["accept", "reject", ""]), st.sampled_from(["", "n"])),
        max_size=8,
    )
)
def test_no_history_of_reviews_and_verdicts_loses_one(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("history")
    said, suspected = dict[str, Decision](), set[str]()
    write_table(folder, [])
    for step in steps:
        if isinstance(step, set):
            write_table(folder, rows(*sorted(step)))
            suspected = set(ids(*step))
        elif (key := ids(step[0])[0]) in suspected:
            set_verdict(folder / TABLE, key, *step[1:])
            said[key] = Decision(*step[1:])
        decided = read_verdicts(folder / TABLE)
        assert decided == {key: said.get(key, Decision("", "")) for key in suspected}
        with geopackage.read(folder / TABLE) as database:
            earlier = decisions(database, EARLIER)
        kept = {key: value for key, value in said.items() if key not in suspected and value != Decision("", "")}
        assert earlier == kept
