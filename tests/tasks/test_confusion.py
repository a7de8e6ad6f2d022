"""Confusion matrices as tables and as pictures: every pair is told, of two classes as of thirty."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.tasks.metrics.confusion import NAME_PX, Confusion, _cut, _percent, _short, _width

SVG = "{http://www.w3.org/2000/svg}"
LONG = "a name of a class of land cover that never comes to an end"


def make(matrix: list[list[int]], names: list[str], null_id: int) -> Confusion:
    classes = [{"id": i, "name": name, "color": "#000000"} for i, name in enumerate(names)]
    return Confusion.of(matrix, classes, null_id)


def test_null_is_no_label_and_a_column_only_if_something_has_no_prediction():
    full = make([[5, 1, 2], [0, 0, 0], [3, 0, 4]], ["car", "null", "tree"], 1)
    assert full.labels == ("car", "tree")
    assert full.predictions == ("car", "tree", "not predicted")
    assert full.counts.tolist() == [[5, 2, 1], [3, 4, 0]]
    assert make([[5, 0, 2], [0, 0, 0], [3, 0, 4]], ["car", "null", "tree"], 1).predictions == ("car", "tree")


def test_tables_of_counts_and_of_shares():
    page = make([[6000, 2000, 0], [0, 0, 0], [0, 0, 0]], ["car", "a|b", "null"], 2)
    assert page.table(shares=False).splitlines()[2] == "| car   | 6,000 | 2,000 |"
    assert page.table(shares=True).splitlines()[2:] == ["| car   | 0.750 | 0.250 |", "| a\\|b  |     – |     – |"]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.text("ab <&>\"'|樹木é_", min_size=1, max_size=60), min_size=1, max_size=31),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
def test_a_picture_tells_every_pair_and_lies_inside_its_bounds(names, seed, zeros):
    random = np.random.default_rng(seed)
    values = 2 ** random.integers(0, 50, (len(names), len(names))) * (random.uniform(size=(len(names),) * 2) > zeros)
    matrix, null_id = values.tolist(), int(random.integers(len(names)))
    confusion = make(matrix, names, null_id)
    text = confusion.picture("cells")
    assert text == make(matrix, names, null_id).picture("cells")
    page = ElementTree.fromstring(text)
    titles = [group.find(f"{SVG}title").text for group in page.iter(f"{SVG}g")]
    assert len(titles) == confusion.counts.size
    for title, (place, count) in zip(titles, np.ndenumerate(confusion.counts), strict=True):
        assert f": {count:,} of {confusion.counts[place[0]].sum():,} cells" in title
    width, height = float(page.get("width")), float(page.get("height"))
    for each in page.iter(f"{SVG}text"):
        shown = each.text or each.find(f"{SVG}title").tail or ""
        long, x, y = _width(shown), float(each.get("x")), float(each.get("y"))
        if each.get("transform"):
            assert x + 0.71 * long <= width and y - 0.71 * long >= 18
        elif each.get("text-anchor") == "end":
            assert x - long >= 0
        else:
            assert x + long * (0.5 if each.get("text-anchor") == "middle" else 1) <= width
        assert 0 <= y <= height


def test_colours_are_of_the_share_of_the_label_alone():
    def colours(matrix: list[list[int]]) -> list[list[str]]:
        page = ElementTree.fromstring(make([*matrix, [0] * 3], ["car", "tree", "null"], 2).picture("pixels"))
        colors = [group.find(f"{SVG}rect").get("fill") for group in page.iter(f"{SVG}g")]
        return [colors[:2], colors[2:]]

    few, many = colours([[3, 1, 0], [1, 1, 0]]), colours([[3, 1, 0], [10**9, 10**9, 0]])
    assert few == many
    assert few[0][0] != few[0][1] and few[1][0] == few[1][1]
    assert colours([[0, 0, 0], [0, 1, 0]]) == [["#eeeeee", "#eeeeee"], ["#f7fbff", "#08306b"]]


def test_figures_are_short_and_never_claim_all_or_nothing():
    assert [_short(n) for n in (0, 9999, 10_000, 999_500, 12_345_678, 2**60)] == [
        *("0", "9999", "10k", "1M", "12.3M", "1.15E"),
    ]
    assert [_percent(s) for s in (0.0, 1e-9, 0.25, 0.9999, 1.0)] == ["0 %", "< 0.1 %", "25 %", "> 99.9 %", "100 %"]


def test_long_names_are_cut():
    assert _cut("car") == "car"
    for name in (LONG, "木" * 40):
        cut = _cut(name)
        assert cut.endswith("…") and name.startswith(cut[:-1].rstrip()) and _width(cut) <= NAME_PX
