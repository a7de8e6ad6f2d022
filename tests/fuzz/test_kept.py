"""Fuzz tests of what rvbuild keeps and receives: no traceback, no hang, no wrong accept, nothing written outside.

`RVBUILD_FUZZ=100000 pytest tests/fuzz/test_kept.py` tries so many inputs of each kind.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvbuild.build.action import Action
from rvbuild.errors import RvbuildError
from tests.build.conftest import Space
from tests.fuzz import kept
from tests.fuzz.fuzzing import CORPUS, LONG, SEED, in_children, source_of

FEW = {"state": 60, "elsewhere": 60, "bundle": 60, "lease": 100, "a_seal": 60, "place": 100}
KINDS = ["action", "signed_action", "state", "a_seal", "lease", "place", "elsewhere", "shard", "index", "bundle"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_or_received(kind):
    tried = in_children(f"tests.fuzz.kept:{kind}", LONG or FEW.get(kind, 500))
    assert tried.dead == []
    assert tried.wrong == []


def test_a_build_on_a_store_that_was_spoilt(tmp_path: Path):
    space = Space(tmp_path / "ws")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    for name in "abc":
        space.write(name, name)
    space.run()
    expected = space.shown()
    for number in range(min(LONG, 10_000) or 40):
        try:
            kept.build_after(source_of(SEED, number), space, expected, outside)
        except (AssertionError, Exception) as error:
            error.add_note(f"number {number}, RVBUILD_FUZZ_SEED={SEED}")
            raise


@pytest.mark.parametrize("path", sorted(CORPUS.glob("kept-*")), ids=lambda path: path.name)
def test_what_was_found(path: Path, tmp_path: Path):
    """Each input of the corpus made a reader fail once: `kept-KIND-….json` holds the kind's file."""
    kind = path.name.split("-")[1]
    if kind == "action":
        assert Action.decoded(path.read_bytes(), kept.KEY) is None
    elif kind == "index":
        (tmp_path / "index.json").write_bytes(path.read_bytes())
        with pytest.raises(RvbuildError):
            kept.read_index(tmp_path / "index.json")
    else:
        json.loads(path.read_bytes())
        raise AssertionError(f"{path.name}: of a kind that nothing here reads")
