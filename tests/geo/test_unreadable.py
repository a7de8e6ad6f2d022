"""Vector files that are refused or too large: the message says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.errors import DataError
from rvbuild.geo.vector.files import read_features
from rvbuild.process.variables import PINNED

BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY e SYSTEM "file:///etc/hostname">]>
<ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml"><gml:featureMember>
<ogr:a fid="a.0"><ogr:geometryProperty><gml:Point><gml:coordinates>1,2</gml:coordinates></gml:Point>
</ogr:geometryProperty><ogr:name>{name}</ogr:name></ogr:a></gml:featureMember></ogr:FeatureCollection>"""


@pytest.mark.parametrize("name", ["&b;", "&e;", "plain"])
def test_a_document_type_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.gml"
    path.write_text(BOMB.format(name=name))
    with pytest.raises(DataError, match=r"a\.gml: .* it has a document type"):
        read_features(path, attributes=["name"])


def large(path: Path) -> Path:
    """Write a multipolygon whose points GDAL takes for some 5 MB; rvbuild reads plain polygons without GDAL."""
    points = ", ".join(f"[{number}, {number * number % 7}]" for number in range(30_000))
    polygon = f'{{"type": "MultiPolygon", "coordinates": [[[{points}, [0, 9], [0, 0]]]]}}'
    feature = f'{{"type": "Feature", "properties": {{}}, "geometry": {polygon}}}'
    path.write_text(f'{{"type": "FeatureCollection", "features": [{feature}]}}')
    return path


def test_a_feature_that_is_too_large_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = large(tmp_path / "a.geojson")
    monkeypatch.setenv("OGR_GEOJSON_MAX_OBJ_SIZE", "1")
    message = r"a\.geojson: cannot be read as a vector file: one of its features needs more than 1 MB .*OGR_GEOJSON_MAX"
    with pytest.raises(DataError, match=message):
        read_features(path)
    monkeypatch.setenv("OGR_GEOJSON_MAX_OBJ_SIZE", PINNED["OGR_GEOJSON_MAX_OBJ_SIZE"])
    assert len(read_features(path).geometries[0].geoms[0].exterior.coords) == 30_002


def test_a_text_that_is_too_long_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    feature = '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"note": "%s"}}'
    path.write_text('{"type": "FeatureCollection", "features": [%s]}' % (feature % ("x" * 11_000_000)))
    with pytest.raises(
        DataError, match=r"a string in it is longer .*, at line 1, character 1\d{7}; remove that attribute"
    ):
        read_features(path)


def test_the_first_cause_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text('{"type": "FeatureCollection", "features": 7}')
    with pytest.raises(DataError, match=r"a\.geojson: cannot be read as a vector file: .+") as raised:
        read_features(path)
    assert "flags=" not in str(raised.value)
