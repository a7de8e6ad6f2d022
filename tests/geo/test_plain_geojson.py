"""GeoJSON collections of plain polygons: what is read after an edit is what is read anew, and what GDAL reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.geo import plain_geojson
from rvbuild.geo.vector import files
from rvbuild.geo.vector.files import read_features

RING = [[0, 0], [4.5, 0], [4, 3], [0, 0]]
FRAMES = (
    '{"type": "FeatureCollection", "features": [%s]}',
    '\ufeff {"name": "ö", "features" :[%s\n],\n "crs": {"type": "name", "properties": {"name": "EPSG:32633"}}, '
    '"type": "FeatureCollection"}\n',
)


def feature(number: int, **more: Any) -> str:
    ring = [[x + number, y] for x, y in RING]
    return json.dumps(
        {
            "type": "Feature",
            "properties": {"class": f"ä{number}"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            **more,
        },
        ensure_ascii=bool(number % 2),
    )


def polygon(coordinates: Any, kind: str = "Polygon") -> str:
    return feature(1, geometry={"type": kind, "coordinates": coordinates})


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    plain_geojson._known.clear()
    yield
    plain_geojson._known.clear()


def anew(path: Path) -> plain_geojson.Collection | None:
    """Read a file of which nothing is known, and leave what is known as it is."""
    known = plain_geojson._known.copy()
    plain_geojson._known.clear()
    try:
        return plain_geojson.read(path, files._crs_of)
    finally:
        plain_geojson._known.clear()
        plain_geojson._known.update(known)


def assert_same(one: plain_geojson.Collection | None, other: plain_geojson.Collection | None) -> None:
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one[:4] == other[:4]
        for mine, theirs in zip(one.elements, other.elements, strict=True):
            if isinstance(mine, list):
                assert mine == theirs
            else:
                assert np.array_equal(mine, theirs)


PIECES = (
    *map(feature, range(5)),
    feature(2, id="a"),
    polygon([RING], "MultiPolygon"),
    polygon([RING, RING]),
    polygon([[[1, 2, 3], *RING[1:]]]),
    polygon([[[1, 2], [1, 2]]]),
    feature(3, geometry=None),
    feature(3, properties=None),
    *("{}", "7", '"', "\\", "[", "]", ",", ", ", "}", ".5", "\n", "ö", '"features": [', "null"),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(FRAMES),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 2), st.lists(st.sampled_from(PIECES), max_size=2), st.booleans()),
        min_size=1,
        max_size=6,
    ),
)
def test_an_edited_file_is_read_as_if_it_were_new(
    tmp_path: Path, frame: str, edits: Sequence[tuple[float, int, Sequence[str], bool]]
) -> None:
    path = tmp_path / "a.geojson"
    features = [feature(number) for number in range(4)]
    text = frame % ",".join(features)
    path.write_text(text)
    assert plain_geojson.read(path, files._crs_of) is not None
    for place, dropped, pieces, whole in edits:
        if whole:  # features are replaced, most of which are plain
            at = round(place * len(features))
            features[at : at + dropped] = pieces
            text = frame % ", ".join(features)
        else:
            at = round(place * len(text))
            text = text[:at] + "".join(pieces) + text[at + dropped :]
        path.write_text(text)
        assert_same(plain_geojson.read(path, files._crs_of), anew(path))


def test_only_what_differs_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.geojson"
    features = [feature(number) for number in range(30)]
    path.write_text(FRAMES[1] % ", ".join(features))
    before = plain_geojson.read(path, files._crs_of)
    features[11:13] = [feature(50), feature(51), feature(52)]
    path.write_text(FRAMES[1] % ", ".join(features))
    made = plain_geojson._made
    counts = list[int]()

    def counting(text: str, starts: Sequence[int], stops: Sequence[int], parsed: Sequence[Any]) -> Any:
        counts.append(len(parsed))
        return made(text, starts, stops, parsed)

    monkeypatch.setattr(plain_geojson, "_made", counting)
    after = plain_geojson.read(path, files._crs_of)
    assert counts == [3]
    assert before is not None
    assert after is not None
    assert after.elements.geometries[20] is before.elements.geometries[19]
    assert after.elements.properties[11]["class"] == "ä50"


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("where", [None, [">", "a", 1]])
def test_gdal_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: str, where: Sequence[Any] | None
) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(frame % ", ".join(feature(number, properties={"a": number}, id=number) for number in range(4)))
    arguments: dict[str, Any] = {"attributes": ["a", "b"], "where": where, "tests": [[">", "a", 2]]}
    plain, value = read_features(path, **arguments), files.digest([path], {"attributes": ["a"], "layer": None})
    monkeypatch.setattr(plain_geojson, "read", lambda path, crs_of: None)
    files._remembered._results.clear()
    by_gdal = read_features(path, **arguments)
    assert all(shapely.equals_exact(plain.geometries, by_gdal.geometries, 0))
    for name in ("attributes", "numbers", "crs", "implied_crs", "passed", "notes", "columns", "ids", "layer"):
        assert getattr(plain, name) == getattr(by_gdal, name), name
    files._remembered._results.clear()
    assert files.digest([path], {"attributes": ["a"], "layer": None}) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        FRAMES[0] % "",
        FRAMES[0] % polygon([RING], "MultiPolygon"),
        FRAMES[0] % polygon([RING, RING]),
        FRAMES[0] % polygon([[[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]]]),
        FRAMES[0] % polygon([[[0, 0], [1, 0], [1, float("nan")], [0, 0]]]),
        FRAMES[0] % feature(1, geometry=None),
        FRAMES[0] % (feature(1) + ","),
        (FRAMES[0] % feature(1)).replace("FeatureCollection", "Features"),
        (FRAMES[0] % feature(1)).replace("{", '{"features": [],', 1),
        (FRAMES[0] % feature(1)).replace("{", '{"conformsTo": ["http://www.opengis.net/spec/json-fg-1/0.2"],', 1),
        (FRAMES[0] % feature(1)) + "x",
    ],
)
def test_all_else_is_left_to_gdal(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text)
    assert plain_geojson.read(path, files._crs_of) is None


def test_little_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FRAMES[0] % ", ".join(feature(number) for number in range(20))
    monkeypatch.setattr(plain_geojson, "MOST_BYTES", int(2.5 * len(text.encode())))
    paths = [tmp_path / f"{name}.geojson" for name in "abc"]
    for path in paths:
        path.write_text(text)
        assert plain_geojson.read(path, files._crs_of) is not None
    assert list(plain_geojson._known) == paths[1:]
