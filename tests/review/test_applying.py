"""Verdicts applied to label files of each format: what is accepted changes, and nothing else does."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.review.accepted import Accepted
from rvbuild.review.applying import publish
from rvbuild.review.applying.plan import plan
from rvbuild.review.applying.publish import stage, states, write_copies, write_in_place
from rvbuild.review.current import CurrentLabels
from rvbuild.review.outputs import ReviewedScene
from rvbuild.review.shapes import rings_of
from tests.review.conftest import CLASSES, GRID, NULL, VECTOR, geojson

SEGMENTATION, DETECTION = "semantic_segmentation", "object_detection"


@dataclass
class Case:
    """Labels of a scene, and verdicts about them."""

    folder: Path
    image: Path
    files: list[Path]
    settings: dict[str, Any]
    task: str = SEGMENTATION

    @property
    def scene(self) -> ReviewedScene:
        names = [str(path.relative_to(self.folder)) for path in self.files]
        image = {"image": {"nodata": None}, "channels": None}
        return ReviewedScene("a", [self.image], image, self.files, names, self.settings)

    def current(self, files: list[Path] | None = None) -> CurrentLabels:
        return CurrentLabels(self.task, files or self.files, self.settings, GRID, CLASSES, NULL)

    def labels(self, files: list[Path] | None = None) -> list[tuple[str, tuple[float, ...]]]:
        """Return the class and the bounds of each label."""
        found = self.current(files).objects
        return [(CLASSES[o.class_id]["name"], tuple(np.round(o.shape.bounds, 3).tolist())) for o in found]

    def place(self, *bounds: float) -> int:
        """Return the place of a label among those that are read."""
        return [found for _, found in self.labels()].index(bounds)

    def verdict(self, kind: str, place: int | None = None, new: str | None = None, shape: Any = None) -> Accepted:
        if place is None:
            proposed = rings_of(shape)
            return Accepted("0" * 16, "a", kind, None, new, None, None, None, None, proposed)
        current = self.current()
        label = current.objects[place]
        return Accepted(
            f"{place:016x}",
            "a",
            kind,
            CLASSES[label.class_id]["name"],
            new,
            self.scene.label_names[label.source.file],
            label.origin.layer,
            label.feature,
            current.object_digest(label),
            None if shape is None else rings_of(shape),
        )

    def apply(self, *accepted: Accepted, in_place: bool = False) -> list[Path]:
        made = plan(accepted, {"a": self.scene}, task=self.task, classes=CLASSES, null_id=NULL)
        before = states(made)
        copies = stage(made, self.folder / "work", CLASSES, NULL)
        if in_place:
            write_in_place(made, copies, self.folder / "backup", before, CLASSES, NULL)
            return self.files
        written = write_copies(made, copies, self.folder / "out").files
        known = dict(zip(made_paths(made), written, strict=True))
        return [known.get(path, path) for path in self.files]


def made_paths(made):
    return list(dict.fromkeys(path for path, _ in made.files))


FEATURES = [
    (shapely.box(1, 2, 5, 6), {"kind": "tree", "height": 1.5, "who": "ä"}),
    (shapely.box(9, 2, 15, 6), {"kind": "car", "height": -2.5, "who": "b"}),
    (shapely.box(20, 20, 25, 26), {"kind": "tree", "height": 0.0, "who": ""}),
    (shapely.box(30, 30, 36, 36), {"kind": "car", "height": 1e9, "who": "c"}),
]
MOVED, NEW = shapely.box(31, 31, 37, 38.5), shapely.box(40, 5, 44, 9)


def plain_geojson(folder, ids=(None,) * 4, **layout):
    content = geojson(*((shape, properties, id_) for (shape, properties), id_ in zip(FEATURES, ids, strict=True)))
    path = folder / "a.geojson"
    path.write_text(json.dumps(content, **layout), encoding="utf-8")
    return path


@pytest.fixture(params=["gpkg", "geojson", "geojson with ids", "shp", "fgb"])
def case(request, tmp_path, write_vector, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    if request.param.startswith("geojson"):
        path = plain_geojson(tmp_path, ids=(7, "x", 3, 12) if "ids" in request.param else (None,) * 4, indent=1)
    elif request.param == "gpkg":
        path = write_vector("a.gpkg", FEATURES, layer="things")
    elif request.param == "shp":
        path = write_vector("a.shp", FEATURES, driver="ESRI Shapefile", encoding="UTF-8")
    else:
        path = write_vector("a.fgb", FEATURES, driver="FlatGeobuf")
    return Case(tmp_path, image, [path], VECTOR)


def content(path: Path) -> dict[str, Any]:
    """Return what fiona reads of a file: schema, CRS, and each feature by its height, which none shares."""
    with fiona.open(path) as collection:
        records = {
            record.properties["height"]: (
                {name: value for name, value in record.properties.items() if name != "id"},
                shapely.to_wkt(shapely.geometry.shape(record.geometry).normalize(), 9),
            )
            for record in collection
        }
        return {"schema": collection.schema, "crs": collection.crs.to_wkt(), "records": records}


def test_each_kind_of_verdict_in_each_format(case):
    before, path = content(case.files[0]), case.files[0]
    original = path.read_bytes()
    tree, car, last = case.place(1, 2, 5, 6), case.place(9, 2, 15, 6), case.place(30, 30, 36, 36)
    (copy,) = case.apply(
        case.verdict("class", tree, "car"),
        case.verdict("spurious", car),
        case.verdict("outline", last, shape=MOVED),
        case.verdict("missing", None, "tree", NEW),
    )
    assert sorted(case.labels([copy])) == [
        ("car", (1, 2, 5, 6)),
        ("car", (31, 31, 37, 38.5)),
        ("tree", (20, 20, 25, 26)),
        ("tree", (40, 5, 44, 9)),
    ]
    after = content(copy)
    assert (after["schema"], after["crs"]) == (before["schema"], before["crs"])
    (new,) = [values for height, (values, _) in after["records"].items() if height is None]
    assert new == {"kind": "tree", "height": None, "who": None}
    expected = {height: values for height, (values, _) in before["records"].items() if height != -2.5}
    expected[1.5] = {**expected[1.5], "kind": "car"}
    assert {h: values for h, (values, _) in after["records"].items() if h is not None} == expected
    for height in (1.5, 0.0):
        assert after["records"][height][1] == before["records"][height][1]
    assert path.read_bytes() == original


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb"])
def test_a_layer_of_multipolygons_stays_one(name, tmp_path, write_vector, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    features = [(shapely.MultiPolygon([shape]), values) for shape, values in FEATURES]
    drivers = {"a.gpkg": "GPKG", "a.shp": "ESRI Shapefile", "a.fgb": "FlatGeobuf"}
    write_vector(name, features, driver=drivers[name])
    case = Case(tmp_path, image, [tmp_path / name], VECTOR)
    drawn = case.verdict("outline", case.place(30, 30, 36, 36), shape=MOVED)
    (copy,) = case.apply(drawn, case.verdict("missing", None, "tree", NEW))
    assert ("car", (31, 31, 37, 38.5)) in case.labels([copy]) and ("tree", (40, 5, 44, 9)) in case.labels([copy])
    with fiona.open(tmp_path / name) as before, fiona.open(copy) as after:
        assert after.schema == before.schema
        kinds = {record.geometry.type for record in after}
    assert kinds <= {"MultiPolygon"} or name == "a.shp"  # which has one type for both


@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb", "a.shp", "a.geojson"])
def test_what_a_file_cannot_hold_is_refused_by_its_name(name, tmp_path, write_vector, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    features = [(shapely.force_3d(shape, 2.0), values) for shape, values in FEATURES]
    drivers = {"a.gpkg": "GPKG", "a.shp": "ESRI Shapefile", "a.fgb": "FlatGeobuf", "a.geojson": "GeoJSON"}
    write_vector(name, features, driver=drivers[name])
    case = Case(tmp_path, image, [tmp_path / name], VECTOR)
    with pytest.raises(DataError, match=rf"^{name}: .*heights"):
        case.apply(case.verdict("outline", case.place(30, 30, 36, 36), shape=MOVED))


def surveyed(name):
    """Return trees and cars with values that are the same in all trees, in all features, or in none."""
    same = {"who": "ä", "year": 2019, "share": 0.1}
    if name.endswith((".gpkg", ".shp")):
        same["day"] = date(2019, 8, 31)
    if name.endswith((".gpkg", ".fgb")):
        same["sure"] = True
    return [
        (shapely.box(5 * number, 2, 5 * number + 4, 6), {"kind": kind, "number": number, **same, "note": note})
        for number, (kind, note) in enumerate([("car", "x"), ("tree", "y"), ("tree", "y"), ("tree", "y"), ("car", "y")])
    ]


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb", "a.geojson"])
def test_a_new_feature_gets_what_all_of_its_class_have_in_common(name, tmp_path, write_vector, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    features = surveyed(name)
    if name == "a.geojson":
        features = [(shape, {**values, "tags": ["a", {"b": None}]}) for shape, values in features]
        (tmp_path / name).write_text(json.dumps(geojson(*((*feature, None) for feature in features))))
    else:
        drivers = {"a.gpkg": "GPKG", "a.shp": "ESRI Shapefile", "a.fgb": "FlatGeobuf"}
        write_vector(name, features, driver=drivers[name], encoding="UTF-8")
    case = Case(tmp_path, image, [tmp_path / name], VECTOR)
    with fiona.open(tmp_path / name) as layer:
        expected = {**next(iter(layer)).properties, "kind": "tree", "number": None, "note": "y"}
    # The trees that it is like may be gone, or cars now.
    others = [case.verdict("spurious", case.place(5, 2, 9, 6)), case.verdict("class", case.place(10, 2, 14, 6), "car")]
    (copy,) = case.apply(*others, case.verdict("missing", None, "tree", NEW))
    with fiona.open(copy) as layer:
        assert [dict(each.properties) for each in layer if each.properties["number"] is None] == [expected]
    if name == "a.geojson":
        assert json.loads(copy.read_text())["features"][-1]["properties"]["tags"] == ["a", {"b": None}]
    cars = case.apply(case.verdict("missing", None, "car", NEW))
    with fiona.open(cars[0]) as layer:
        (new,) = [dict(each.properties) for each in layer if each.properties["number"] is None]
    assert new == dict.fromkeys(expected) | {"kind": "car"}  # two cars are too few to tell


def test_in_place_with_a_backup(case):
    original = {each.name: each.read_bytes() for each in case.folder.glob("a.*")}
    case.apply(case.verdict("class", case.place(1, 2, 5, 6), "car"), in_place=True)
    assert [name for name, _ in case.labels()].count("car") == 3
    assert {each.name: each.read_bytes() for each in (case.folder / "backup").iterdir()} == original
    assert {each.name for each in case.folder.glob("a.*")} == set(original)
    assert not list(case.folder.glob(".*"))


def test_a_label_that_has_changed_since_is_refused_and_nothing_is_written(case):
    verdicts = [case.verdict("class", 0, "car"), replace(case.verdict("spurious", 1), digest="0" * 16)]
    with pytest.raises(DataError, match=r"nothing was written.*\n.*the label has changed since the review"):
        case.apply(*verdicts)
    assert not (case.folder / "out").exists()


def test_what_is_done_already_is_not_done_again(case):
    verdicts = [
        case.verdict("class", case.place(1, 2, 5, 6), "car"),
        case.verdict("outline", case.place(30, 30, 36, 36), shape=MOVED),
        case.verdict("missing", None, "tree", NEW),
    ]
    case.apply(*verdicts, in_place=True)
    made = plan(verdicts, {"a": case.scene}, task=case.task, classes=CLASSES, null_id=NULL)
    assert len(made.already) == 3
    assert made.files == {}


def test_two_verdicts_about_one_label(case):
    place = case.place(30, 30, 36, 36)
    changed = case.verdict("class", place, "tree")
    (copy,) = case.apply(changed, replace(case.verdict("outline", place, shape=NEW), id="f" * 16))
    assert ("tree", (40, 5, 44, 9)) in case.labels([copy])
    with pytest.raises(DataError, match="contradicts another accepted verdict"):
        case.apply(changed, replace(case.verdict("spurious", place), id="f" * 16))


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_accepted_nothing_else_changes(case, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("applied")
    count = len(case.current().objects)
    chosen = data.draw(st.dictionaries(st.integers(0, count - 1), st.sampled_from(["class", "spurious", "outline"])))
    heights = list(content(case.files[0])["records"])
    verdicts = []
    for place, kind in chosen.items():
        corner = data.draw(st.floats(0, 30))
        shape = shapely.box(corner, 1.5, corner + 4, 7) if kind == "outline" else None
        new = "car" if case.labels()[place][0] == "tree" else "tree"
        verdicts.append(case.verdict(kind, place, new if kind == "class" else None, shape))
    if not verdicts:
        return
    made = plan(verdicts, {"a": case.scene}, task=case.task, classes=CLASSES, null_id=NULL)
    copies = stage(made, folder, CLASSES, NULL)
    before, after = content(case.files[0])["records"], content(copies[case.files[0]])["records"]
    for place, height in enumerate(heights):
        if chosen.get(place) == "spurious":
            assert height not in after
            continue
        kind = chosen.get(place)
        assert {**after[height][0], "kind": 0} == {**before[height][0], "kind": 0}
        assert (after[height][0] == before[height][0]) == (kind != "class")
        if kind != "outline":
            assert after[height][1] == before[height][1]
    assert len(after) == len(before) - sum(kind == "spurious" for kind in chosen.values())


def test_a_geojson_keeps_every_other_byte(tmp_path, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = plain_geojson(tmp_path)
    text = path.read_text()
    text = (
        text.replace("1000000000.0", "1.00e9").replace('"features": [', '"features":  [\r\n').replace("}]}", "} ]}\n")
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    case = Case(tmp_path, image, [path], VECTOR)
    (copy,) = case.apply(case.verdict("class", 0, "car"))
    assert copy.read_bytes() == path.read_bytes().replace(b'"kind": "tree"', b'"kind": "car"', 1)


def test_a_geopackage_keeps_its_other_layers_styles_and_tables(tmp_path, write_raster, write_vector):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = write_vector("a.gpkg", FEATURES, layer="things")
    write_vector("a.gpkg", FEATURES[:1], layer="others")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("create table layer_styles (id integer primary key, styleQML text)")
        database.execute("insert into layer_styles values (1, '<qgis/>')")
        database.execute("pragma user_version = 10300")
    case = Case(tmp_path, image, [path], {**VECTOR, "layer": "things"})
    (copy,) = case.apply(case.verdict("spurious", 0), case.verdict("class", 1, "tree"))

    def dump(file):
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
            names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
            return {name: database.execute(f'select * from "{name}"').fetchall() for name in names}

    before, after = dump(path), dump(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"things", "gpkg_contents", "gpkg_ogr_contents"} | {
        n for n in changed if n.startswith("rtree_things")
    }
    assert [row[0] for row in after["things"]] == [2, 3, 4]
    with fiona.open(copy, layer="things") as layer:
        assert len(list(layer.filter(bbox=(500000, 5799990, 500003, 5800000)))) == 0


def test_a_geopackage_in_the_hands_of_qgis_is_changed_in_place(tmp_path, write_raster, write_vector):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = write_vector("a.gpkg", FEATURES, layer="things")
    qgis = sqlite3.connect(path, isolation_level=None)
    qgis.execute("pragma journal_mode = wal")
    qgis.execute("create table notes (text)")
    case = Case(tmp_path, image, [path], VECTOR)
    case.apply(case.verdict("class", 0, "car"), in_place=True)
    assert qgis.execute("select kind from things where fid = 1").fetchall() == [("car",)]
    assert qgis.execute("select * from notes").fetchall() == []
    with contextlib.closing(sqlite3.connect(tmp_path / "backup" / "a.gpkg", isolation_level=None)) as backup:
        assert backup.execute("select kind from things where fid = 1").fetchall() == [("tree",)]
        assert backup.execute("select * from notes").fetchall() == []
    qgis.close()


def test_heights_are_not_lost(tmp_path, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = tmp_path / "a.gpkg"
    schema = {"geometry": "3D Polygon", "properties": {"kind": "str"}}
    corners = [(x, y, 7.5) for x, y in [(500001, 5799990), (500003, 5799990), (500003, 5799995), (500001, 5799990)]]
    with fiona.open(path, "w", driver="GPKG", schema=schema, crs="EPSG:32633") as layer:
        layer.write(
            {
                "type": "Feature",
                "properties": {"kind": "car"},
                "geometry": {"type": "Polygon", "coordinates": [corners]},
            }
        )
    case = Case(tmp_path, image, [path], VECTOR)
    (copy,) = case.apply(case.verdict("class", 0, "tree"))
    with fiona.open(copy) as layer:
        assert layer[1].geometry.coordinates == [corners]
    with pytest.raises(DataError, match="has heights or measures"):
        case.apply(case.verdict("outline", 0, shape=NEW))


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ({"class_id": 0, "class_name": "tree"}, {"class_attribute": None}, {"class_id": 1, "class_name": "car"}),
        ({"kind": 0}, {}, {"kind": 1}),
        ({"kind": 12}, {"class_map": {"11": "car", "12": "tree", "13": "car"}}, {"kind": 11}),
        ({"kind": "oak"}, {"class_map": {"oak": "tree", "vw": "car"}}, {"kind": "vw"}),
        ({"label": "tree", "note": "x"}, {"class_attribute": None}, {"label": "car", "note": "x"}),
        ({"class_id": 0, "label": "my oak"}, {"class_attribute": None}, {"class_id": 1, "label": "my oak"}),
        ({"kind": "elm"}, {"class_map": {"vw": "car"}, "unknown": "tree"}, {"kind": "vw"}),
        (
            {"kind": "elm", "n": 3},
            {"class_map": {"vw": "car"}, "class_where": [("tree", [">", "n", 2])]},
            {"kind": "vw", "n": 3},
        ),
    ],
)
def test_a_class_is_written_as_it_is_read(tmp_path, write_raster, values, options, expected):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(geojson((FEATURES[0][0], values, None))))
    case = Case(tmp_path, image, [path], {**VECTOR, **options})
    (copy,) = case.apply(case.verdict("class", 0, "car"))
    assert json.loads(copy.read_text())["features"][0]["properties"] == expected


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"kind": "tree"}, {"class": "tree", "class_attribute": None}, "all of its labels are of the class"),
        ({"kind": "oak"}, {"class_map": {"oak": "tree"}}, '`class_map` in `labels` has no value for the class "car"'),
        ({"n": 3}, {"class_where": [("tree", [">", "n", 2])]}, "is not in an attribute"),
        ({"kind": "tree"}, {"where": ["==", "kind", "tree"]}, "would not be read"),
    ],
)
def test_a_class_that_cannot_be_written_is_refused(tmp_path, write_raster, values, options, message):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(geojson((FEATURES[0][0], values, None))))
    case = Case(tmp_path, image, [path], {**VECTOR, **options})
    with pytest.raises(DataError, match=message):
        case.apply(case.verdict("class", 0, "car"))
    assert not (tmp_path / "out").exists()


def test_outlines_go_back_through_crs_and_shifts(tmp_path, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = tmp_path / "a.geojson"
    west, east, south, north = 15.0001, 15.0002, 52.3502, 52.35024
    corners = [[west, north], [east, north], [east, south], [west, south], [west, north]]
    feature = {
        "type": "Feature",
        "properties": {"kind": "tree"},
        "geometry": {"type": "Polygon", "coordinates": [corners]},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    case = Case(tmp_path, image, [path], {**VECTOR, "shift_m": [1.0, -2.0]})
    label = case.current().objects
    assert len(label) == 1
    moved = shapely.affinity.translate(label[0].shape, 3, 4)
    (copy,) = case.apply(case.verdict("outline", 0, shape=moved), case.verdict("missing", None, "car", NEW))
    outlines = [each.shape for each in case.current([copy]).objects]
    for shape, wanted in zip(outlines, (moved, NEW), strict=True):
        assert shapely.hausdorff_distance(shape, wanted) < 1e-3


def test_points_with_a_buffer(tmp_path, write_raster):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(geojson((shapely.Point(10, 10), {"kind": "tree"}, None))))
    case = Case(tmp_path, image, [path], {**VECTOR, "buffer_px": {"Point": 3.0, "LineString": 1.0}})
    (copy,) = case.apply(case.verdict("missing", None, "car", shapely.box(37, 17, 43, 23)))
    assert case.labels([copy])[1] == ("car", (37, 17, 43, 23))
    assert json.loads(copy.read_text())["features"][1]["geometry"]["type"] == "Point"


def test_a_format_that_is_only_read_is_refused(tmp_path, write_raster, write_vector):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = write_vector("a.gml", FEATURES, driver="GML")
    case = Case(tmp_path, image, [path], VECTOR)
    with pytest.raises(DataError, match="cannot be edited without loss; convert it"):
        case.apply(case.verdict("class", 0, "car"))


def test_all_files_are_changed_or_none(tmp_path, write_raster, write_vector, monkeypatch):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    paths = [write_vector("a.gpkg", FEATURES[:2]), write_vector("b.shp", FEATURES[2:], driver="ESRI Shapefile")]
    paths.append(plain_geojson(tmp_path).rename(tmp_path / "c.geojson"))
    case = Case(tmp_path, image, paths, VECTOR)
    before = case.labels()
    files = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix not in (".gpkg", ".tif")}
    put = publish._put

    def fail(source, target):
        if target.name == "c.geojson" and source.parent.name != "backup":
            raise OSError("the disk is full")
        put(source, target)

    monkeypatch.setattr(publish, "_put", fail)
    with pytest.raises(OSError, match="full"):
        case.apply(
            case.verdict("class", 0, "car"), case.verdict("spurious", 2), case.verdict("spurious", 4), in_place=True
        )
    assert case.labels() == before
    assert {path: path.read_bytes() for path in files} == files
    assert not list(tmp_path.glob(".*"))


def test_a_shapefile_keeps_its_encoding_and_loses_a_stale_index(tmp_path, write_raster, write_vector):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    features = [(FEATURES[0][0], {"kind": "bäume"}), (FEATURES[1][0], {"kind": "Auto"})]
    path = write_vector("a.shp", features, driver="ESRI Shapefile", encoding="cp1252")
    path.with_suffix(".cpg").write_text("1252")
    path.with_suffix(".qix").write_bytes(b"an index")
    mapping = {"bäume": "tree", "Auto": "car"}
    case = Case(tmp_path, image, [path], {**VECTOR, "class_map": mapping})
    case.apply(case.verdict("class", 1, "tree"), case.verdict("outline", 0, shape=NEW), in_place=True)
    assert case.labels() == [("tree", (40, 5, 44, 9)), ("tree", (9, 2, 15, 6))]
    assert path.with_suffix(".dbf").read_bytes().count("bäume".encode("cp1252")) == 2
    assert not path.with_suffix(".qix").exists()
    assert (tmp_path / "backup" / "a.qix").read_bytes() == b"an index"
    assert path.with_suffix(".cpg").read_text() == "1252"


def test_files_of_one_stem_are_edited_each_for_itself(tmp_path, write_raster, write_vector):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    paths = [write_vector("a.shp", FEATURES[:2], driver="ESRI Shapefile"), plain_geojson(tmp_path)]
    paths.append(write_vector("a.gpkg", FEATURES[2:]))
    case = Case(tmp_path, image, paths, VECTOR)
    labels = case.labels()
    case.apply(*(case.verdict("spurious", place) for place in (0, 2, 6)), in_place=True)
    assert case.labels() == [labels[place] for place in (1, 3, 4, 5, 7)]
