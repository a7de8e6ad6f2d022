import json
from itertools import pairwise

from rvbuild.data.geojson import collection, ellipse, rectangle


def area(ring):
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


def test_ellipse_touches_its_box_and_is_closed():
    ring = ellipse(10, 20, 50, 40)
    assert ring[0] == ring[-1]
    assert min(x for x, _ in ring) == 10
    assert max(x for x, _ in ring) == 50
    assert min(y for _, y in ring) == 20
    assert max(y for _, y in ring) == 40


def test_ellipse_has_nearly_the_area_of_the_curve():
    assert 0.98 < area(ellipse(0, 0, 40, 20)) / (3.14159265 * 20 * 10) < 1


def test_rectangle():
    assert area(rectangle(1, 2, 4, 6)) == 12


def test_collection_is_geojson_with_an_optional_crs():
    text = collection([(rectangle(0, 0, 1, 1), {"class": "crown"}), (rectangle(1, 0, 2, 1), {})])
    document = json.loads(text)
    assert "crs" not in document
    assert [feature["properties"] for feature in document["features"]] == [{"class": "crown"}, {}]
    assert document["features"][0]["geometry"]["coordinates"][0][0] == [0, 0]
    named = json.loads(collection([], crs="urn:ogc:def:crs:EPSG::32616"))
    assert named["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32616"
    assert named["features"] == []
