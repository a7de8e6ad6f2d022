"""Fuzz tests of what rvbuild keeps and receives: no traceback, no hang, no wrong accept, nothing written outside.

`RVBUILD_FUZZ=100000 pytest tests/fuzz/test_kept.py` tries so many inputs of each kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rvbuild.engine.plan import seal
from rvbuild.engine.store.leases import _HOST, Standing, leases
from rvbuild.engine.store.record import decode
from rvbuild.engine.store.state import State
from rvbuild.engine.store.store import Store
from tests.engine.conftest import Space
from tests.fuzz import kept
from tests.fuzz.fuzzing import CORPUS, LONG, SEED, in_children, source_of

pytestmark = [pytest.mark.timeout(0)] if LONG else []  # a long run takes hours

FEW = {"state": 60, "foreign_store": 60, "bundle": 60, "lease": 100, "a_seal": 60, "place": 100}
KINDS = ["action", "signed_action", "state", "a_seal", "lease", "place", "foreign_store", "shard", "index", "bundle"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_or_received(kind):
    tried = in_children(f"tests.fuzz.kept:{kind}", LONG or FEW.get(kind, 500))
    assert tried.dead == []
    assert tried.wrong == []
    assert tried.accepted


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


def test_a_lease_of_a_path_that_no_file_system_takes(tmp_path: Path):
    store = Store(tmp_path / "store")
    store.prepare()
    head = json.loads((CORPUS / "kept-lease-long-path.json").read_bytes())
    (store.root / "workspaces/a.jsonl").write_text(json.dumps({**head, "host": _HOST}))
    (lease,) = leases(store)
    assert lease.standing(lease.used) in Standing


@pytest.mark.parametrize("digest", [None, "0" * 32])
def test_a_seal_that_rests_on_addresses_that_nobody_can_be_asked_by(tmp_path: Path, digest: str | None):
    (tmp_path / ".stamp").touch()
    nothing: dict[str, dict] = {"files": {}, "directories": {}, "environment": {}, "packages": {}}
    path = Path(seal.path_of(tmp_path, []))
    seal.write(path, [], **nothing, remote_files={}, lines=["nothing to do"])
    assert seal.holds(path, []) == ["nothing to do"]
    for url in json.loads((CORPUS / "kept-seal-addresses.json").read_text()):
        seal.write(path, [], **nothing, remote_files={url: digest}, lines=["nothing to do"])
        assert seal.holds(path, []) is None, url


@pytest.mark.parametrize("change", [bytes.upper, lambda check: b" " + check, lambda check: check + b"\r"])
def test_a_seal_whose_check_is_written_otherwise(tmp_path: Path, change: Callable[[bytes], bytes]):
    """Found: a flipped bit made a capital of a letter, and the number was the same."""
    (tmp_path / ".stamp").touch()
    nothing: dict[str, dict] = {"files": {}, "directories": {}, "environment": {}, "packages": {}, "remote_files": {}}
    path = Path(seal.path_of(tmp_path, []))
    for number in range(100):  # until the check has a letter
        seal.write(path, [], **nothing, lines=[str(number)])
        text, _, check = path.read_bytes().rpartition(b"\n")
        if change(check) != check:
            path.write_bytes(text + b"\n" + change(check))
            assert seal.holds(path, []) is None
            return
    raise AssertionError("no check has a letter")


def test_a_record_whose_key_no_database_takes():
    assert decode((CORPUS / "kept-record-surrogate.json").read_text()) is None


def test_a_database_with_a_text_that_is_none(tmp_path: Path):
    """Found: what SQLite says of a damaged schema is no text itself, and Python raises another error of that."""
    State(tmp_path / "state.db").close()
    content = (tmp_path / "state.db").read_bytes()
    (tmp_path / "state.db").write_bytes(content.replace(b"CREATE TABLE", b"\xff\xa0EATE TABLE"))
    lines: list[str] = []
    State(tmp_path / "state.db", lines.append).close()
    assert "a new one was created" in lines[0]
