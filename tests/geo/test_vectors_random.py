"""Whatever a GeoJSON holds, it is read or refused with a message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import open_labels
from rvbuild.geo.vector.files import digest
from tests.geo.conftest import PLACES

CLASSES = [{"id": 0, "name": "car", "color": "#ff0000"}, {"id": 1, "name": "null", "color": "#000000"}]
GRID = Grid(40, 50, *PLACES["degrees"])
PIXELS = Grid(40, 50, *PLACES["pixel coordinates"])

NUMBERS = st.one_of(
    st.integers(-3, 60),
    st.floats(13.1, 13.1004),
    st.floats(52.3996, 52.4),
    st.sampled_from([1e308, -1e30, 91, 181, None, "1", True]),
)
POINT = st.lists(NUMBERS, min_size=0, max_size=3)
LINE = st.lists(POINT, min_size=0, max_size=5)
CLOSED = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=5).map(lambda points: [*points, points[0]])
COORDINATES = st.one_of(
    POINT, LINE, st.lists(LINE | CLOSED, max_size=2), st.lists(st.lists(CLOSED, max_size=2), max_size=2)
)
KINDS = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "Polygn")
SIMPLE = st.builds(lambda kind, xy: {"type": kind, "coordinates": xy}, st.sampled_from(KINDS), COORDINATES)
POLYGON = st.lists(CLOSED, min_size=1, max_size=2).map(lambda rings: {"type": "Polygon", "coordinates": rings})
COLLECTION = st.lists(SIMPLE, max_size=2).map(lambda parts: {"type": "GeometryCollection", "geometries": parts})
VALUES = st.one_of(st.none(), st.integers(-1, 2), st.sampled_from(["car", "x", 0.5, [1], {"a": 1}]))
PROPERTIES = st.none() | st.dictionaries(st.sampled_from(["class_id", "class_name", "a"]), VALUES, max_size=2)
FEATURE = st.builds(
    lambda geometry, properties: {"type": "Feature", "geometry": geometry, "properties": properties},
    POLYGON | SIMPLE | COLLECTION | st.none() | st.just(7),
    PROPERTIES,
)
FILES = st.one_of(
    st.lists(FEATURE, max_size=3).map(lambda features: {"type": "FeatureCollection", "features": features}),
    FEATURE,
    POLYGON,
    st.sampled_from([[], 7, None, {}, {"type": "FeatureCollection"}, {"type": "FeatureCollection", "features": [3]}]),
)
LABELS: dict[str, Any] = {"kind": "vector", "unknown": "drop", "buffer_px": {"Point": 1.0, "LineString": 1.0}}
WHERE = ["any", [">", "a", 0], ["!has", "a.a"], ["==", "$type", "Point"]]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, st.sampled_from([GRID, PIXELS]), st.sampled_from([None, WHERE]))
def test_whatever_a_file_holds(tmp_path: Path, content: Any, grid: Grid, where: Any) -> None:
    path = tmp_path / "random.geojson"
    path.write_text(json.dumps(content))
    label_settings = {**LABELS, "where": where} if where else LABELS
    for read in (
        lambda: open_labels([path], label_settings, grid=grid, classes=CLASSES, null_id=1).read(grid.window),
        lambda: open_aoi([path], grid),
        lambda: digest([path], {"layer": None, "attributes": ["a"], "where": where}),
    ):
        try:
            read()
        except DataError as error:
            assert str(path) in str(error)
