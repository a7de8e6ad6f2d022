"""Suspects: what belongs to each kind, and their file."""

import json
from dataclasses import replace

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.review.shapes import area_of, rings_of
from rvbuild.review.suspect import KINDS, Source, Suspect, fingerprint, read_suspects, write_suspects

SQUARE = (((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0), (0.0, 0.0)),)


def suspect(kind="class", number=0, **changes):
    values = {
        "id": f"{number:016x}",
        "scene": "a",
        "kind": kind,
        "score": 0.75,
        "gain": 12.0,
        "label_class": None if kind == "missing" else "crown",
        "proposed_class": None if kind in ("spurious", "duplicate") else "crown",
        "reason": "the model sees ground, 0.93",
        "source": None if kind == "missing" else Source(0, 7),
        "polygon": SQUARE,
        "proposed_polygon": SQUARE if kind in ("outline", "missing") else None,
    }
    return Suspect(**{**values, **changes})


@st.composite
def suspects(draw):
    figures = st.floats(allow_nan=False, allow_infinity=False)
    points = st.lists(st.tuples(figures, figures), min_size=3, max_size=5)
    rings = points.map(lambda ring: tuple([*ring, ring[0]]))
    kind = draw(st.sampled_from(KINDS))
    changes = {
        "score": draw(st.floats(0, 1)),
        "gain": draw(figures),
        "reason": draw(st.text(st.characters(codec="utf-8"))),
        "polygon": (draw(rings),),
        "scene": draw(st.text(st.characters(codec="utf-8"))),
    }
    if kind != "missing":
        changes["source"] = Source(draw(st.integers(0, 5)), draw(st.none() | st.integers(0, 99)))
    return suspect(kind, draw(st.integers(0, 2**64 - 1)), **changes)


@given(st.lists(suspects(), max_size=4, unique_by=lambda each: each.id))
def test_suspects_come_back_from_their_file(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("suspects") / "suspects.json"
    write_suspects(path, written)
    read = read_suspects(path)
    assert sorted(read, key=lambda each: each.id) == sorted(written, key=lambda each: each.id)
    first = path.read_bytes()
    write_suspects(path, read[::-1])
    assert path.read_bytes() == first


def test_the_most_probable_come_first(tmp_path):
    path = tmp_path / "suspects.json"
    write_suspects(path, [suspect(number=1, score=0.2), suspect(number=2, gain=1.0), suspect(number=3)])
    assert [int(each.id, 16) for each in read_suspects(path)] == [3, 2, 1]


def test_an_id_is_there_once(tmp_path):
    with pytest.raises(ValueError, match="same id"):
        write_suspects(tmp_path / "suspects.json", [suspect(), suspect(score=0.1)])


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("missing", {"source": Source(0, 1)}, "source: given"),
        ("missing", {"proposed_polygon": None}, "proposed_polygon: missing"),
        ("spurious", {"proposed_class": "crown"}, "proposed_class: given"),
        ("class", {"proposed_class": None}, "proposed_class: missing"),
        ("class", {"source": None}, "source: missing"),
        ("class", {"score": 1.5}, "score"),
        ("class", {"score": float("nan")}, "score"),
        ("wrong", {}, "wrong"),
        ("class", {"id": "A" * 16}, "id"),
        ("class", {"polygon": ()}, "polygon"),
        ("class", {"polygon": (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),)}, "closed"),
    ],
)
def test_what_does_not_belong_to_a_kind_is_refused(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        suspect(kind, **changes)


def change_entry(content, **changes):
    content["suspects"][0].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(version=2),
        lambda content: content.update(more=1),
        lambda content: content["suspects"][0].pop("reason"),
        lambda content: change_entry(content, note="x"),
        lambda content: change_entry(content, score="0.5"),
        lambda content: change_entry(content, score=True),
        lambda content: change_entry(content, source={"file": 0}),
        lambda content: change_entry(content, source={"file": "a.gpkg", "place": 1}),
        lambda content: change_entry(content, polygon=[[[0, 0, 0]]]),
        lambda content: change_entry(content, polygon=None),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, change):
    path = tmp_path / "suspects.json"
    write_suspects(path, [suspect()])
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="cannot be read as suspects"):
        read_suspects(path)


def test_rings_are_areas_and_back():
    hole = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(2, 2), (2, 4), (4, 4), (4, 2)]])
    for area in (shapely.box(1, 2, 3, 4), hole, shapely.MultiPolygon([hole, shapely.box(20, 0, 30, 5)])):
        rings = rings_of(area)
        assert area_of(rings).equals(area)
        assert rings_of(area_of(rings)) == rings
    with pytest.raises(ValueError, match="expected polygons"):
        rings_of(shapely.LineString([(0, 0), (1, 1)]))


def test_a_fingerprint_is_of_class_and_outline():
    other = replace(suspect(), polygon=(tuple((x + 2**-20, y) for x, y in SQUARE[0]),)).polygon
    prints = {fingerprint("crown", SQUARE), fingerprint(None, SQUARE), fingerprint("crown", other)}
    assert len(prints) == 3
    assert fingerprint("crown", (tuple((-0.0 + x, y) for x, y in SQUARE[0]),)) in prints
