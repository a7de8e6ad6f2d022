"""JSON edited as text means what the same edit of the data means, and leaves all other bytes alone."""

import json

from hypothesis import given
from hypothesis import strategies as st

from rvbuild.review.edits import json_text

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
LAYOUT = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"indent": "\t", "ensure_ascii": False}])


@given(st.lists(VALUES, max_size=6), st.data(), LAYOUT)
def test_elements_are_removed_and_added(values, data, layout):
    removed = data.draw(st.sets(st.integers(0, max(0, len(values) - 1)), max_size=len(values)))
    added = data.draw(st.lists(VALUES, max_size=2))
    text = " " + json.dumps(values, **layout) + "\n"
    array = json_text.value_at(text, 0)
    elements = json_text.elements_of(text, array)
    changes = json_text.without(elements, removed)
    if added:
        written = [json_text.dumped(value) for value in added]
        changes.append(json_text.appended(text, array, elements, removed, written))
    expected = [value for place, value in enumerate(values) if place not in removed] + added
    new = json_text.replaced(text, changes)
    assert json.loads(new) == expected
    for place, span in enumerate(elements):
        if place not in removed:
            assert text[span.start : span.stop] in new


@given(st.dictionaries(TEXT, VALUES, max_size=4), TEXT, VALUES, LAYOUT)
def test_a_member_is_set(values, name, value, layout):
    text = json.dumps(values, **layout)
    new = json_text.replaced(text, [json_text.set_member(text, json_text.value_at(text, 0), name, value)])
    assert json.loads(new) == {**values, name: value}
    assert list(json.loads(new)) == list({**values, name: value})
