from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.engine.keys.artifact import KeyDigester, digest, digest_texts

_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_VALUES = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3))


@pytest.mark.slow
@given(st.lists(st.dictionaries(_TEXT, _VALUES, max_size=4), max_size=4), _VALUES)
def test_keys_are_the_digests_of_their_components(settings, shared):
    digester = KeyDigester()
    for values in settings:
        parts = {"schema": 1, "stage": "chip", "settings": {**values, "classes": shared}, "inputs": [["image", "ab"]]}
        assert digester.key(parts) == digest(parts) == digester.key(json.loads(json.dumps(parts)))


@given(st.lists(_TEXT | st.just("0af3"), max_size=4))
def test_texts_are_digested_as_what_they_are(values):
    assert digest_texts(values) == digest(values)
