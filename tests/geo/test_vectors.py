from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as reproject

from rvbuild.errors import DataError
from rvbuild.files import budget
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.files import digest, read_features
from rvbuild.geo.vector.placing import to_pixels
from rvbuild.geo.vector.shapes import polygons

Write = Callable[..., Path]

ARGS = {"layer": None, "attributes": ["kind"]}
PIXELS = Grid(100, 100, Affine.identity(), None)


@pytest.fixture
def two(tmp_path: Path, write_geojson: Write, square: Callable[..., Any]) -> Path:
    return write_geojson(
        tmp_path / "two.geojson",
        [(square(0.25, 0, 10, 10.125), {"kind": "car", "note": "a"}), (square(3, 3, 5, 5), {"kind": 7, "note": None})],
    )


def test_features_come_in_file_order_with_the_attributes_asked_for(two: Path) -> None:
    features = read_features(two, attributes=["kind", "missing"])
    assert [dict(values) for values in features.attributes] == [
        {"kind": "car", "missing": None},
        {"kind": 7, "missing": None},
    ]
    assert features.numbers == (0, 1)
    assert features.geometries[0].bounds == (0.25, 0, 10, 10.125)
    assert features.implied_crs


def test_features_without_geometry_count_but_do_not_come(
    tmp_path: Path, write_geojson: Write, square: Callable[..., Any]
) -> None:
    path = write_geojson(tmp_path / "some.geojson", [(None, {"kind": "x"}), (square(0, 0, 1, 1), {"kind": "y"})])
    features = read_features(path, attributes=["kind"])
    assert features.numbers == (1,)
    assert features.attributes[0]["kind"] == "y"


def test_an_empty_collection_has_no_features(tmp_path: Path, write_geojson: Write) -> None:
    features = read_features(write_geojson(tmp_path / "none.geojson", []))
    assert len(features.geometries) == 0
    assert len(to_pixels(features, PIXELS)) == 0


@pytest.mark.parametrize("driver", ["GPKG", "ESRI Shapefile", "FlatGeobuf", "GeoJSON"])
def test_any_format(tmp_path: Path, driver: str) -> None:
    suffix = {"GPKG": "gpkg", "ESRI Shapefile": "shp", "FlatGeobuf": "fgb", "GeoJSON": "geojson"}[driver]
    path = tmp_path / f"trees.{suffix}"
    schema = {"geometry": "Polygon", "properties": {"kind": "int32"}}
    with fiona.open(path, "w", driver=driver, schema=schema, crs="EPSG:32633") as file:
        for x in (0, 20):
            geometry = shapely.geometry.mapping(shapely.box(x, 0, x + 10, 10))
            file.write({"type": "Feature", "properties": {"kind": x}, "geometry": geometry})
    features = read_features(path, attributes=["kind"])
    assert sorted(values["kind"] for values in features.attributes) == [0, 20]
    assert features.crs == CRS.from_epsg(32633)
    assert not features.implied_crs


def test_kml_comes_with_the_attributes_of_its_driver(tmp_path: Path) -> None:
    ring = (
        "<outerBoundaryIs><LinearRing><coordinates>10,50 11,50 11,51 10,50</coordinates></LinearRing></outerBoundaryIs>"
    )
    mark = f"<Placemark><name>pond</name><Polygon>{ring}</Polygon></Placemark>"
    path = tmp_path / "a.kml"
    path.write_text(f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{mark}</Document></kml>')
    features = read_features(path, attributes=["Name"], where=["==", "Name", "pond"])
    assert features.attributes == ({"Name": "pond"},) and features.columns == ("Name", "Description")
    assert shapely.to_wkt(features.geometries[0]) == "POLYGON ((10 50, 11 50, 11 51, 10 50))"
    assert features.crs is not None and features.crs.to_epsg() == 4326


def test_a_third_dimension_is_left_out(tmp_path: Path, write_geojson: Write) -> None:
    point = {"type": "Point", "coordinates": [1, 2, 3]}
    features = read_features(write_geojson(tmp_path / "high.geojson", [(point, {})]))
    assert not shapely.has_z(features.geometries).any()


@pytest.mark.slow
def test_layers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "many.gpkg"
    schema = {"geometry": "Point", "properties": {}}
    for layer in ("cars", "trees"):
        with fiona.open(path, "w", driver="GPKG", layer=layer, schema=schema, crs="EPSG:4326") as file:
            file.write({"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": (1, 2)}})
    assert len(read_features(path, layer="trees").numbers) == 1
    with pytest.raises(DataError, match=r"has 2 layers; name one with `layer`: cars, trees"):
        read_features(path)
    with pytest.raises(DataError, match='no layer "tree"; did you mean "trees"'):
        read_features(path, layer="tree")


def _attributes_table(path: Path, name: str) -> None:
    """Add a table without geometries, as QGIS does for styles that it saves in the file."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, f_table_name TEXT)")
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)", [name, name]
        )


@pytest.mark.slow
def test_tables_without_geometries_are_no_layers(tmp_path: Path) -> None:
    path = tmp_path / "styled.gpkg"
    schema = {"geometry": "Point", "properties": {}}
    point = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": (1, 2)}}
    with fiona.open(path, "w", driver="GPKG", layer="trees", schema=schema, crs="EPSG:4326") as file:
        file.write(point)
    before = digest([path], ARGS)
    for table in ("layer_styles", "notes"):
        _attributes_table(path, table)
    assert len(read_features(path).numbers) == 1
    assert digest([path], ARGS) == before
    with pytest.raises(DataError, match='the layer "layer_styles" has no geometries; its layers are trees'):
        read_features(path, layer="layer_styles")
    with fiona.open(path, "w", driver="GPKG", layer="cars", schema=schema, crs="EPSG:4326") as file:
        file.write(point)
    with pytest.raises(DataError, match=r"has 2 layers; name one with `layer`: trees, cars$"):
        read_features(path)


def test_a_file_of_tables_alone_has_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,name\n1,x\n")
    with pytest.raises(DataError, match="is a table without geometries"):
        read_features(tmp_path / "table.csv")


def _shapefile(path: Path, text: bytes, cpg: str = "") -> Path:
    """Write a shapefile of one square whose `kind` is `text`; it says of its encoding what `cpg` is."""
    schema = {"geometry": "Polygon", "properties": {"kind": "str:8"}}
    with fiona.open(path, "w", driver="ESRI Shapefile", schema=schema, crs="EPSG:32633", encoding="utf-8") as file:
        geometry = shapely.geometry.mapping(shapely.box(0, 0, 9, 9))
        file.write({"type": "Feature", "properties": {"kind": "XXXXXXXX"}, "geometry": geometry})
    table = path.with_suffix(".dbf")
    content = table.read_bytes().replace(b"X" * 8, text.ljust(8))
    table.write_bytes(content[:29] + b"\0" + content[30:])
    path.with_suffix(".cpg").unlink(missing_ok=True)
    if cpg:
        path.with_suffix(".cpg").write_text(cpg)
    return path


@pytest.mark.parametrize(
    ("encoding", "cpg", "encoding_key"),
    [("latin-1", "", None), ("utf-8", "UTF-8", None), ("utf-8", "", "UTF-8"), ("cp1250", "UTF-8", "windows-1250")],
)
def test_texts_in_any_encoding(tmp_path: Path, encoding: str, cpg: str, encoding_key: str | None) -> None:
    path = _shapefile(tmp_path / "a.shp", "Gebäude".encode(encoding), cpg)
    features = read_features(path, attributes=["kind"], encoding=encoding_key)
    assert features.attributes == ({"kind": "Gebäude"},)
    args = {"attributes": ["kind"], **({"encoding": encoding_key} if encoding_key else {})}
    plain = _shapefile(tmp_path / "b.shp", "Gebäude".encode(), "UTF-8")
    assert digest([path], args) == digest([plain], {"attributes": ["kind"]})


def test_texts_that_are_not_in_the_encoding_are_told(tmp_path: Path, two: Path) -> None:
    path = _shapefile(tmp_path / "a.shp", "Gebäude".encode("cp1250"), "UTF-8")
    with pytest.raises(DataError, match=r"feature 0 .*: its `kind` is not in the declared encoding .* 'Gebäude'"):
        read_features(path, attributes=["kind"])
    read_features(path)
    with pytest.raises(DataError, match="is GeoJSON, which is always UTF-8"):
        read_features(two, encoding="UTF-8")


def test_what_has_no_geometry_is_told(tmp_path: Path, write_geojson: Write, square: Callable[..., Any]) -> None:
    path = write_geojson(tmp_path / "a.geojson", [(None, {}), (square(0, 0, 9, 9), {}), (None, {})])
    assert read_features(path).notes == (
        f"{path}: each of 2 features, the first is 0 (from 0), has no geometry and was left out",
    )


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "has an invalid Polygon .* or remove the feature"),
        ({"type": "Polygon"}, "has an invalid Polygon"),
        (
            {"type": "CurvePolygon", "coordinates": []},
            "has a geometry of the type 'CurvePolygon'; expected one",
        ),
        ("POINT (0 0)", r"has a geometry of the type 'POINT \(0 0\)'"),
    ],
)
def test_what_is_no_geometry_is_told_with_its_feature(
    tmp_path: Path, write_geojson: Write, square: Callable[..., Any], geometry: Any, message: str
) -> None:
    path = write_geojson(tmp_path / "a.geojson", [(None, {}), (square(0, 0, 9, 9), {}), (geometry, {})])
    with pytest.raises(DataError, match=rf"a\.geojson: feature 2 \(from 0\) {message}"):
        read_features(path)


def test_what_is_no_vector_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.geojson").write_text('{"type": "FeatureCollection", "features": [')
    for name in ("bad.geojson", "missing.gpkg"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as a vector file"):
            read_features(tmp_path / name)


def test_a_file_that_does_not_fit_into_memory_is_refused_before_it_is_opened(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "memory_bytes", lambda: 11 * two.stat().st_size)
    monkeypatch.setattr(fiona, "open", None)
    with pytest.raises(DataError, match=r"two\.geojson: reading it needs about .* of memory.*GeoPackage"):
        read_features(two)


def test_coordinates_stay_sub_pixel(two: Path) -> None:
    pixels = to_pixels(read_features(two), PIXELS)
    assert pixels[0].bounds == (0.25, 0, 10, 10.125)


def test_reprojection_is_exact_for_every_vertex(tmp_path: Path, write_geojson: Write) -> None:
    grid = Grid(6000, 6000, Affine(0.05, 0, 366000, 0, -0.05, 5810000), CRS.from_epsg(32633))
    x, y = np.random.default_rng(0).uniform(0, 6000, (2, 50))
    longitude, latitude = reproject(grid.crs, "EPSG:4326", *grid.to_map(x, y))
    points = [({"type": "Point", "coordinates": list(p)}, {}) for p in zip(longitude, latitude, strict=True)]
    pixels = to_pixels(read_features(write_geojson(tmp_path / "points.geojson", points)), grid)
    vertices = shapely.get_coordinates(pixels)
    np.testing.assert_allclose(vertices, np.stack([x, y], axis=1), rtol=0, atol=2e-6)


def test_pixel_corners_come_back_as_whole_numbers(tmp_path: Path, write_geojson: Write) -> None:
    grid = Grid(6000, 6000, Affine(0.05, 0, 366000.123, 0, -0.05, 5810000 / 3), CRS.from_epsg(32633))
    corners = np.random.default_rng(0).integers(0, 6000, (2, 50)).astype(float)
    longitude, latitude = reproject(grid.crs, "EPSG:4326", *grid.to_map(*corners))
    points = [({"type": "Point", "coordinates": list(p)}, {}) for p in zip(longitude, latitude, strict=True)]
    pixels = to_pixels(read_features(write_geojson(tmp_path / "points.geojson", points)), grid)
    np.testing.assert_array_equal(shapely.get_coordinates(pixels), corners.T)


def test_without_a_crs_a_world_file_places_vectors(two: Path) -> None:
    grid = Grid(100, 100, Affine(0.5, 0, 0, 0, -0.5, 20), None)
    assert to_pixels(read_features(two), grid)[1].bounds == (6, 30, 10, 34)


def test_a_crs_on_one_side_only_is_refused(
    tmp_path: Path, write_geojson: Write, square: Callable[..., Any], grid: Grid
) -> None:
    named = write_geojson(tmp_path / "utm.geojson", [(square(0, 0, 1, 1), {})], crs="EPSG:32633")
    with pytest.raises(DataError, match=r"is in EPSG:32633, but the image has no CRS.*gdal_edit\.py -a_srs"):
        to_pixels(read_features(named), PIXELS)
    nameless = tmp_path / "nameless.shp"
    with fiona.open(nameless, "w", driver="ESRI Shapefile", schema={"geometry": "Polygon", "properties": {}}) as file:
        file.write({"type": "Feature", "properties": {}, "geometry": square(0, 0, 1, 1)})
    with pytest.raises(DataError, match="has no CRS, but the image is in EPSG:32633"):
        to_pixels(read_features(nameless), grid)
    assert to_pixels(read_features(nameless), PIXELS)[0].bounds == (0, 0, 1, 1)


def test_coordinates_that_are_no_degrees_are_told(
    tmp_path: Path, write_geojson: Write, square: Callable[..., Any], grid: Grid
) -> None:
    path = write_geojson(tmp_path / "utm.geojson", [(square(366000, 5809000, 366100, 5809100), {})])
    with pytest.raises(DataError, match=r"utm\.geojson: .*EPSG:4326 to EPSG:32633"):
        to_pixels(read_features(path), grid)


def test_the_digest_is_of_what_the_file_means(tmp_path: Path, two: Path) -> None:
    value = json.loads(two.read_text())
    same = digest([two], ARGS)
    assert len(same) == 32

    def digest_of(value: Any, **format_: Any) -> str:
        path = tmp_path / "again.json"
        path.write_text(json.dumps(value, **format_))
        return digest([path], ARGS)

    assert digest_of(value) == same
    assert digest_of(value, indent=4) == same
    assert digest_of(value, sort_keys=True) == same
    value["features"][0]["properties"]["note"] = "edited"
    value["features"][1]["properties"]["more"] = 1
    value["name"] = "something"
    assert digest_of(value) == same
    ring = value["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == [0.25, 0]
    ring[0] = ring[4] = [0.25, 0.0]
    assert digest_of(value) == same


def test_the_digest_follows_every_change_of_meaning(tmp_path: Path, two: Path) -> None:
    digests = {digest([two], ARGS)}

    def add(edit: Callable[[Any], Any]) -> None:
        value = json.loads(two.read_text())
        value = edit(value) or value
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(value))
        digests.add(digest([path], ARGS))

    def move(value: Any) -> None:
        value["features"][0]["geometry"]["coordinates"][0][1][0] += 1e-9

    def rename(value: Any) -> None:
        value["features"][0]["properties"]["kind"] = "cars"

    def unset(value: Any) -> None:
        value["features"][0]["properties"]["kind"] = None

    def reorder(value: Any) -> None:
        value["features"].reverse()

    def project(value: Any) -> None:
        value["crs"] = {"type": "name", "properties": {"name": "EPSG:32633"}}

    def drop(value: Any) -> None:
        value["features"].pop()

    def retype(value: Any) -> None:
        geometry = value["features"][1]["geometry"]
        geometry["type"], geometry["coordinates"] = "MultiPolygon", [geometry["coordinates"]]

    changes = [move, rename, unset, reorder, project, drop, retype]
    for change in changes:
        add(change)
    assert len(digests) == 1 + len(changes)
    assert digest([two], {"layer": None, "attributes": []}) not in digests


def test_filters_leave_features_out_or_sort_them(two: Path) -> None:
    features = read_features(two, where=["==", "kind", "car"], tests=[["has", "missing"], ["==", "$type", "Polygon"]])
    assert features.numbers == (0,)
    assert features.passed == (1,)
    assert read_features(two).passed == (None, None)


def test_a_filter_for_an_attribute_that_is_not_there(tmp_path: Path, two: Path) -> None:
    features = read_features(two, where=["==", "kinds", "car"])
    assert features.notes == (
        f'{two}: none of its features has an attribute `kinds`; did you mean "kind"?',
        f"{two}: none of its 2 features passes `where`",
    )
    assert read_features(two, where=["all", ["==", "kind", "car"], ["!has", "height"]]).notes == ()
    path = tmp_path / "trees.gpkg"
    schema = {"geometry": "Point", "properties": {"kind": "str"}}
    with fiona.open(path, "w", driver="GPKG", schema=schema, crs="EPSG:4326") as file:
        geometry = {"type": "Point", "coordinates": (1, 2)}
        file.write({"type": "Feature", "properties": {"kind": "elm"}, "geometry": geometry})
    with pytest.raises(DataError, match='has no attribute `knd`; did you mean "kind"'):
        read_features(path, tests=[["==", "knd", "elm"]])
    assert read_features(path, where=["!has", "height"]).numbers == (0,)


def test_the_id_of_a_feature_can_be_asked_for(tmp_path: Path, two: Path) -> None:
    value = json.loads(two.read_text())
    value["features"][1]["id"] = "x"
    (tmp_path / "ids.geojson").write_text(json.dumps(value))
    assert read_features(tmp_path / "ids.geojson", where=["==", "$id", "x"]).numbers == (1,)


def test_the_digest_is_of_the_features_that_count_and_of_what_decides_over_them(tmp_path: Path, two: Path) -> None:
    args = {"layer": None, "attributes": [], "where": ["has", "kind"], "tests": [[">", "kind", 5], ["has", "kind"]]}
    value = json.loads(two.read_text())

    def digest_of(edit: Callable[[Any], None]) -> str:
        path = tmp_path / "edited.geojson"
        copy = json.loads(json.dumps(value))
        edit(copy["features"])
        path.write_text(json.dumps(copy))
        return digest([path], args)

    same = digest_of(lambda features: None)
    assert digest_of(lambda features: features[1]["properties"].update(kind=8)) == same, "it passes the same test"
    assert digest_of(lambda features: features[1]["properties"].update(kind=4)) != same, "it passes another test"
    out = {"type": "Feature", "properties": {"kind": None}, "geometry": features_geometry(value)}
    assert digest_of(lambda features: features.append(out)) == same, "it is left out"
    assert digest_of(lambda features: features[0]["properties"].update(kind=None)) != same


def features_geometry(value: Any) -> Any:
    return value["features"][0]["geometry"]


def test_files_beside_it_are_read_with_a_file_and_not_by_themselves(two: Path, tmp_path: Path) -> None:
    shape = tmp_path / "two.shp"
    schema = {"geometry": "Polygon", "properties": {"kind": "str"}}
    with fiona.open(shape, "w", driver="ESRI Shapefile", schema=schema) as target:
        ring = [(0, 0), (0, 1), (1, 1), (0, 0)]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        target.write({"type": "Feature", "geometry": geometry, "properties": {"kind": "a"}})
    sidecars = [shape.with_suffix(suffix) for suffix in (".dbf", ".shx", ".cpg")]
    assert digest([shape, *sidecars], ARGS) == digest([shape], ARGS)


def test_curves_come_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(
        'WKT,kind\n"CURVEPOLYGON(CIRCULARSTRING(0 0, 5 5, 10 0, 5 -5, 0 0))",disc\n'
        '"COMPOUNDCURVE((0 0, 1 1), CIRCULARSTRING(1 1, 2 2, 3 1))",bend\n'
    )
    disc, bend = read_features(path).geometries
    assert disc.geom_type == "Polygon"
    assert abs(disc.area - np.pi * 25) < 0.1
    assert bend.geom_type == "LineString"


def test_a_shift_moves_features(two: Path, grid: Grid) -> None:
    features = read_features(two)
    still = shapely.get_coordinates(to_pixels(features, PIXELS))
    moved = shapely.get_coordinates(to_pixels(features, PIXELS, shift_px=[2, -1.5]))
    np.testing.assert_allclose(moved - still, np.broadcast_to([2, -1.5], still.shape))
    with pytest.raises(DataError, match=r"cannot be moved by `shift_m`, because the image has no CRS\. Use `shift_px`"):
        to_pixels(features, PIXELS, shift_m=[1, 1])


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:2263", "EPSG:4326"], ids=["metres", "US feet", "degrees"])
def test_a_shift_in_metres(tmp_path: Path, write_geojson: Write, crs: str) -> None:
    point = {"type": "Point", "coordinates": [10, 60]}
    features = read_features(write_geojson(tmp_path / "point.geojson", [(point, {})], crs=crs))
    grid = Grid(100, 100, Affine.identity(), CRS.from_user_input(crs))
    expected = {
        "EPSG:32633": (13, 56),
        "EPSG:2263": (10 + 3 / 0.3048006096, 60 - 4 / 0.3048006096),
        "EPSG:4326": (10 + 3 / 111319.5 / 0.5, 60 - 4 / 111319.5),
    }[crs]
    vertices = shapely.get_coordinates(to_pixels(features, grid, shift_m=[3, -4]))[0]
    np.testing.assert_allclose(vertices, expected, atol=1e-5)


def test_the_digest_of_geopackage_does_not_depend_on_its_dates(tmp_path: Path, square: Callable[..., Any]) -> None:
    schema = {"geometry": "Polygon", "properties": {"kind": "str"}}
    digests = set()
    for name in ("a.gpkg", "b.gpkg"):
        with fiona.open(tmp_path / name, "w", driver="GPKG", layer="x", schema=schema, crs="EPSG:4326") as file:
            file.write({"type": "Feature", "properties": {"kind": "car"}, "geometry": square(0, 0, 1, 1)})
        digests.add(digest([tmp_path / name], ARGS))
    assert len(digests) == 1


def test_invalid_polygons_are_repaired() -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    repaired = polygons(bow_tie)
    assert repaired.is_valid
    assert repaired.area == 50
    valid = shapely.box(0, 0, 1, 1)
    assert polygons(valid) is valid
    assert polygons(shapely.LineString([(0, 0), (1, 1)])).is_empty
    mixed = shapely.GeometryCollection([shapely.Point(0, 0), shapely.box(0, 0, 2, 2)])
    assert polygons(mixed).area == 4
