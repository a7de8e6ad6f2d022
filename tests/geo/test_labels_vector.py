from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import rasterio.features
from affine import Affine
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import LabelSource, open_labels
from rvbuild.geo.windows import Window, sliding

Write = Callable[..., Path]
Square = Callable[..., dict[str, Any]]
Classes = list[dict[str, Any]]
Open = Callable[..., LabelSource]

NULL = 3
PIXELS = Grid(60, 80, Affine.identity(), None)


@pytest.fixture
def open_features(tmp_path: Path, write_geojson: Write, classes: Classes) -> Open:
    def open_them(*features: tuple[Any, dict[str, Any]], on: Grid = PIXELS, **settings: Any) -> LabelSource:
        path = write_geojson(tmp_path / "labels.geojson", features)
        return open_labels([path], {"kind": "vector", **settings}, grid=on, classes=classes, null_id=NULL)

    return open_them


def labels_of(source: LabelSource) -> np.ndarray:
    return source.read(source.grid.window)


def test_one_class_for_all_features_and_null_elsewhere(open_features: Open, square: Square) -> None:
    with open_features((square(10, 20, 30, 25), {"class_id": 77}), **{"class": "tree"}) as source:
        labels = labels_of(source)
        assert (labels[20:25, 10:30] == 1).all()
        assert (labels == NULL).sum() == 60 * 80 - 100
        assert (source.read(Window(-10, -10, 5, 5)) == NULL).all()


def test_background_lies_inside_the_scene_only(open_features: Open, square: Square) -> None:
    with open_features((square(0, 0, 5, 5), {}), **{"class": "tree", "background": "ground"}) as source:
        labels = source.read(Window(50, 70, 20, 20))
    assert (labels[:10, :10] == 2).all()
    assert (labels[10:] == NULL).all()
    assert (labels[:, 10:] == NULL).all()


def test_a_pixel_belongs_to_what_holds_its_centre_or_to_all_that_touches(open_features: Open, square: Square) -> None:
    shape = (square(10.6, 10.4, 20.4, 20.6), {})
    with open_features(shape, **{"class": "car"}) as source:
        labels = labels_of(source)
    assert (labels[10:21, 11:20] == 0).all()
    assert (labels == 0).sum() == 11 * 9
    with open_features(shape, **{"class": "car", "all_touched": True}) as source:
        assert (labels_of(source)[10:21, 10:21] == 0).all()


@pytest.mark.parametrize(("value", "expected"), [("tree", 1), ("1", 1), (1, 1), (1.0, 1), (" tree ", 1)], ids=repr)
def test_an_attribute_holds_names_or_ids(open_features: Open, square: Square, value: Any, expected: int) -> None:
    with open_features((square(0, 0, 5, 5), {"kind": value}), class_attribute="kind") as source:
        assert labels_of(source)[0, 0] == expected


@pytest.mark.parametrize("value", [12, 12.0, "12"], ids=repr)
def test_an_attribute_is_mapped(open_features: Open, square: Square, value: Any) -> None:
    options = {"class_attribute": "code", "class_map": {"12": "ground", "13": "car"}}
    with open_features((square(0, 0, 5, 5), {"code": value}), **options) as source:
        assert labels_of(source)[0, 0] == 2


def test_a_class_is_inferred_from_the_usual_attributes(open_features: Open, square: Square) -> None:
    with open_features(
        (square(0, 0, 5, 5), {"class_id": 2, "class_name": "ground", "label": "Ground 7"}),
        (square(10, 0, 15, 5), {"class_name": "tree", "label": "car"}),
        (square(20, 0, 25, 5), {"label": "car"}),
    ) as source:
        labels = labels_of(source)
    assert labels[0, [0, 10, 20]].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("attributes", "attribute"),
    [({"class_name": "car"}, "class_name"), ({"class_name": "elm"}, "class_name"), ({"label": "car"}, "label")],
)
def test_a_number_beside_the_name_of_another_class_is_no_class_id(
    open_features: Open, square: Square, attributes: dict[str, str], attribute: str
) -> None:
    feature = (square(0, 0, 5, 5), {"class_id": 2, **attributes})
    value = attributes[attribute]
    text = rf"`class_id` = 2, which is ground, and `{attribute}` = '{value}'.* with `class_attribute = \"class_id\"` or"
    with pytest.raises(DataError, match=text):
        open_features(feature)
    with open_features(feature, class_attribute="class_id") as source:
        assert labels_of(source)[0, 0] == 2
    with open_features(feature, class_map={"2": "tree"}) as source:
        assert labels_of(source)[0, 0] == 1
    with open_features(feature, unknown="drop") as source:
        assert labels_of(source)[0, 0] == NULL


def test_a_name_in_another_case_is_recognised(open_features: Open, square: Square) -> None:
    with pytest.raises(DataError, match=r"`kind` = 'TREE'; did you mean \"tree\"\? Expected a class \(car"):
        open_features((square(0, 0, 5, 5), {"kind": "TREE"}), class_attribute="kind")


def test_what_is_unknown_is_told(open_features: Open, square: Square) -> None:
    features = [(square(0, 0, 5, 5), {"kind": "car"}), (square(9, 0, 15, 5), {"kind": "tre"}), (square(0, 0, 1, 1), {})]
    with pytest.raises(DataError) as caught:
        open_features(*features, class_attribute="kind")
    message = str(caught.value)
    assert "labels.geojson: feature 1 (from 0) has `kind` = 'tre'; did you mean \"tree\"?" in message
    assert "Expected a class (car, tree, ground, null) or its id; this concerns 2 features" in message
    with pytest.raises(DataError, match=r"no attribute `class_id` or `class_name` or `label` \(there are kind\)"):
        open_features(*features)
    with pytest.raises(DataError, match=r"no attribute `knd`; did you mean \"kind\"\? \(there are kind\)"):
        open_features(*features, class_attribute="knd")
    with pytest.raises(DataError, match=r"a key of `class_map` \(automobile\)"):
        open_features(*features, class_attribute="kind", class_map={"automobile": "car"})
    with open_features(*features, class_attribute="kind", unknown="drop") as source:
        labels = labels_of(source)
        assert labels[0, 10] == NULL
        assert labels[0, 0] == 0
    with open_features(*features, class_attribute="kind", unknown="ground") as source:
        assert labels_of(source)[0, [0, 10]].tolist() == [2, 2]


def test_an_id_beyond_the_classes_is_unknown(open_features: Open, square: Square) -> None:
    for value in (4, -1, 1.5):
        with pytest.raises(DataError, match="expected a class"):
            open_features((square(0, 0, 5, 5), {"class_id": value}))


@pytest.mark.parametrize("name", ["label", "class_name"])
def test_numbers_are_class_ids_only_where_that_is_said(open_features: Open, square: Square, name: str) -> None:
    feature = (square(0, 0, 5, 5), {name: 1})
    with pytest.raises(
        DataError, match=rf"`{name}` = 1, expected a class .* map its values to classes with `class_map`"
    ):
        open_features(feature)
    for options in ({"class_map": {"1": "tree"}}, {"class_attribute": name}):
        with open_features(feature, **options) as source:
            assert labels_of(source)[0, 0] == 1


def test_a_class_in_another_encoding_is_recognised(open_features: Open, square: Square, classes: Classes) -> None:
    classes[0]["name"] = "Gebäude"
    for value, encoding in (("GebÃ¤ude", "UTF-8"), ("Geb\x84ude", "CP850")):
        with pytest.raises(DataError, match=rf"In {encoding} it reads 'Gebäude': set `encoding = \"{encoding}\"`"):
            open_features((square(0, 0, 5, 5), {"kind": value}), class_attribute="kind")


def test_options_name_classes(open_features: Open, square: Square) -> None:
    for options in ({"class": "cars"}, {"class": "car", "background": "cars"}, {"unknown": "cars"}):
        with pytest.raises(DataError, match=r'labels\.\w+: there is no class "cars"; did you mean "car"'):
            open_features((square(0, 0, 5, 5), {}), **options)


def test_points_and_lines_are_widened(open_features: Open) -> None:
    features = [
        ({"type": "Point", "coordinates": [10.5, 10.5]}, {}),
        ({"type": "LineString", "coordinates": [[30, 20.5], [50, 20.5]]}, {}),
        ({"type": "MultiPoint", "coordinates": [[60.5, 30.5], [70.5, 40.5]]}, {}),
    ]
    with open_features(*features, **{"class": "car", "buffer_px": {"Point": 3, "LineString": 2}}) as source:
        labels = labels_of(source)
    for row, col in ((10, 10), (30, 60), (40, 70)):
        assert (labels[row, col - 2 : col + 3] == 0).all()
        assert (labels[row - 2 : row + 3, col] == 0).all()
        assert labels[row, col + 4] == NULL
    assert (labels[19:22, 30:50] == 0).all()
    with pytest.raises(DataError, match=r"feature 1 \(from 0\) is a LineString.*buffer_px = \{ LineString = 1 \}"):
        open_features(*features, **{"class": "car", "buffer_px": {"Point": 3}})


def test_collections_are_taken_apart(open_features: Open, square: Square) -> None:
    parts = [square(0, 0, 5, 5), {"type": "Point", "coordinates": [20.5, 20.5]}]
    collection = {"type": "GeometryCollection", "geometries": parts}
    with open_features((collection, {}), **{"class": "car", "buffer_px": {"Point": 1}}) as source:
        labels = labels_of(source)
    assert labels[2, 2] == labels[20, 20] == 0


def test_polygons_that_cross_themselves_are_repaired(open_features: Open) -> None:
    ring = [[0, 0], [20, 20], [20, 0], [0, 20], [0, 0]]
    with open_features(({"type": "Polygon", "coordinates": [ring]}, {}), **{"class": "car"}) as source:
        labels = labels_of(source)
    assert labels[10, 2] == labels[10, 17] == 0
    assert labels[1, 10] == NULL


def test_holes_are_holes(open_features: Open, square: Square) -> None:
    outer, inner = square(0, 0, 20, 20)["coordinates"][0], square(5, 5, 10, 10)["coordinates"][0]
    with open_features(({"type": "Polygon", "coordinates": [outer, inner]}, {}), **{"class": "car"}) as source:
        labels = labels_of(source)
    assert (labels == 0).sum() == 400 - 25


def test_no_features_are_all_background(open_features: Open) -> None:
    with open_features(**{"class": "car", "background": "ground"}) as source:
        assert (labels_of(source) == 2).all()


def test_files_and_features_cover_in_order(
    tmp_path: Path, write_geojson: Write, square: Square, classes: Classes
) -> None:
    first = write_geojson(tmp_path / "one.geojson", [(square(0, 0, 20, 20), {"class_id": 0})])
    second = write_geojson(
        tmp_path / "two.geojson", [(square(5, 5, 20, 20), {"class_id": 1}), (square(10, 10, 12, 12), {"class_id": 2})]
    )
    for files, expected in (([first, second], [0, 1, 2]), ([second, first], [0, 0, 0])):
        with open_labels(files, {"kind": "vector"}, grid=PIXELS, classes=classes, null_id=NULL) as source:
            assert labels_of(source)[[1, 7, 11], [1, 7, 11]].tolist() == expected


def test_windows_equal_the_burn_of_the_whole_scene(
    tmp_path: Path, write_geojson: Write, classes: Classes, place: tuple[Affine, CRS | None]
) -> None:
    grid = Grid(150, 130, *place)
    rng = np.random.default_rng(5)
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    features, pixels = [], []
    for index in range(60):
        ring = rng.uniform(-5, 150, 2) + np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(2, 25, (8, 1))
        ring = np.rint(np.concatenate([ring, ring[:1]]) * 64) / 64
        x, y = grid.to_map(ring[:, 0], ring[:, 1])
        polygon = {"type": "Polygon", "coordinates": [np.stack([x, y], 1).tolist()]}
        features.append((polygon, {"class_id": index % 3}))
        pixels.append(({"type": "Polygon", "coordinates": [ring.tolist()]}, index % 3))
    crs = None if grid.crs is None else f"EPSG:{grid.crs.to_epsg()}"
    path = write_geojson(tmp_path / "labels.geojson", features, crs=crs)
    expected = rasterio.features.rasterize(pixels, out_shape=(150, 130), fill=NULL, dtype="uint8")
    with open_labels([path], {"kind": "vector"}, grid=grid, classes=classes, null_id=NULL) as source:
        for window in sliding(150, 130, 40, 27):
            part = window.clip(150, 130)
            labels = source.read(window)
            np.testing.assert_array_equal(labels[part.slices_in(window)], expected[part.slices_in(grid.window)])


def test_a_layer_is_chosen(tmp_path: Path, square: Square, classes: Classes) -> None:
    path = tmp_path / "labels.gpkg"
    schema = {"geometry": "Polygon", "properties": {"class_id": "int32"}}
    for index, layer in enumerate(("first", "second")):
        with fiona.open(path, "w", driver="GPKG", layer=layer, schema=schema) as file:
            record = {"type": "Feature", "properties": {"class_id": index}, "geometry": square(0, 0, 5, 5)}
            file.write(record)
    settings = {"kind": "vector", "layer": "second"}
    with open_labels([path], settings, grid=PIXELS, classes=classes, null_id=NULL) as source:
        assert labels_of(source)[0, 0] == 1


def test_filters_choose_features_and_classes(open_features: Open, square: Square) -> None:
    features = [
        (square(0, 0, 5, 5), {"kind": "house", "height": 9}),
        (square(10, 0, 15, 5), {"kind": "road"}),
        (square(20, 0, 25, 5), {"kind": "road", "class_name": "car"}),
        (square(30, 0, 35, 5), {"kind": "ruin", "height": 9}),
    ]
    options = {
        "where": ["!=", "kind", "ruin"],
        "class_where": [["ground", [">", "height", 3]], ["tree", ["has", "kind"]]],
    }
    with open_features(*features, **options) as source:
        assert labels_of(source)[0, [0, 10, 20, 30]].tolist() == [2, 1, 0, NULL], "an attribute goes before a filter"


def test_what_passes_no_filter_is_unknown(open_features: Open, square: Square) -> None:
    feature = (square(0, 0, 5, 5), {"kind": "road"})
    options = {"class_where": [["ground", [">", "height", 3]]]}
    with pytest.raises(DataError, match=r"or a feature that passes one of `class_where`"):
        open_features(feature, **options)
    with open_features(feature, unknown="tree", **options) as source:
        assert labels_of(source)[0, 0] == 1


def test_the_next_attribute_is_asked_if_one_names_no_class(open_features: Open, square: Square) -> None:
    with open_features((square(0, 0, 5, 5), {"class_name": "elm", "label": "tree"})) as source:
        assert labels_of(source)[0, 0] == 1


def test_widths_differ_by_class(open_features: Open) -> None:
    def line(row: int) -> dict[str, Any]:
        return {"type": "LineString", "coordinates": [[0, row], [80, row]]}

    widths = {"LineString": {"car": 1.0, "tree": 4.0, "ground": 1.0, "null": 1.0}}
    features = [(line(10), {"label": "car"}), (line(30), {"label": "tree"})]
    with open_features(*features, buffer_px=widths) as source:
        labels = labels_of(source)
    assert (labels == 0).sum() == 2 * 80
    assert (labels == 1).sum() == 8 * 80


def test_polygons_grow_and_shrink(open_features: Open, square: Square) -> None:
    shape = (square(10, 10, 20, 20), {"label": "car"})
    for change, side in ((2, 14), (-3, 4)):
        with open_features(shape, buffer_px={"Polygon": change}) as source:
            labels = labels_of(source)
        assert (labels[15] == 0).sum() == side
    with open_features(shape, buffer_px={"Polygon": -5}) as source:
        assert (labels_of(source) == NULL).all(), "nothing is left of it"


def test_features_are_moved(open_features: Open, square: Square) -> None:
    with open_features((square(10, 10, 20, 20), {}), **{"class": "car", "shift_px": [3, -4]}) as source:
        assert (labels_of(source)[6:16, 13:23] == 0).all()


def test_tables_have_settings_of_their_own(
    tmp_path: Path, write_geojson: Write, classes: Classes, square: Square
) -> None:
    line = {"type": "LineString", "coordinates": [[0.25, 10.25], [79.75, 10.25]]}
    roads = write_geojson(tmp_path / "roads.geojson", [(line, {})])
    houses = write_geojson(tmp_path / "houses.geojson", [(square(10.6, 5.6, 20.4, 20.4), {"kind": "house"})])
    thin = {"Point": 1.0, "LineString": 0.1}
    tables = [
        {"files": 1, "class": "car", "buffer_px": thin, "all_touched": True},
        {"files": 1, "class_where": [["tree", ["==", "kind", "house"]]], "all_touched": False},
    ]
    settings = {"kind": "vector", "background": "ground", "parts": tables}
    with open_labels([roads, houses], settings, grid=PIXELS, classes=classes, null_id=NULL) as source:
        labels = labels_of(source)
    assert (labels[10] == 0).sum() == 80 - 9, "the second table lies over the first"
    assert (labels[6:20, 11:20] == 1).all()
    assert (labels == 1).sum() == 14 * 9, "only pixels whose centre is inside"
    assert labels[0, 0] == 2


def test_what_was_repaired_or_left_out_is_noted(open_features: Open, square: Square) -> None:
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    features = [(bow_tie, {"label": "car"}), (square(0, 0, 5, 5), {"label": "elm"}), (bow_tie, {"label": "car"})]
    with open_features(*features, unknown="drop") as source:
        invalid, dropped = source.notes
        assert (labels_of(source) == 0).sum() == 50
    assert invalid.endswith(
        "labels.geojson: each of 2 features, the first is 0 (from 0), has invalid geometry, which was repaired"
    )
    assert dropped.endswith("feature 1 (from 0) has no class of the project and was left out")
