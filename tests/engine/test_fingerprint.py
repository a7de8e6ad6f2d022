"""Digests by stat signature, and what shows that a file has changed, even to and fro."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvbuild.engine.keys.signature import Signature, hash_file, signature
from rvbuild.engine.store.fingerprint import Fingerprints, is_racy
from rvbuild.engine.store.state import State


@pytest.fixture
def prints(tmp_path: Path) -> Iterator[Fingerprints]:
    state = State(tmp_path / "state.db")
    yield Fingerprints(state)
    state.close()


def test_a_stamp_shows_every_write_and_every_touch(prints: Fingerprints, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    name = str(path)

    def change(kind: str) -> None:
        if kind == "put back":
            path.write_text("b")
            path.write_text("a")
        elif kind == "with the time put back":
            before = path.stat()
            path.write_text("b")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif kind == "replaced":
            (tmp_path / "b.txt").write_text("a")
            (tmp_path / "b.txt").replace(path)
        elif kind == "touched":
            os.utime(path)
        elif kind == "removed":
            path.unlink()

    for kind in ("put back", "with the time put back", "replaced", "touched", "removed"):
        stamp = prints.stamp(name)
        assert prints.changed({name: stamp}) == []
        change(kind)  # at once: the stamp was waited for
        assert prints.changed({name: stamp}) == [name], kind
    stamp = prints.stamp(name)
    assert prints.changed({name: stamp}) == []
    path.write_text("a")
    assert prints.changed({name: stamp}) == [name]


@pytest.mark.slow
def test_a_stamp_is_of_the_content_at_its_time(prints: Fingerprints, tmp_path: Path) -> None:
    """A write in the tick in which a file was digested looks as if it were none."""
    path = tmp_path / "a.txt"
    for i in range(30):
        path.write_text(f"{i:03}")
        first = prints.digest(path)
        path.write_text(f"{i + 500:03}")
        prints.stamp(path)
        assert prints.digest(path) == hash_file(path) != first


def test_a_file_of_a_time_to_come_is_held_against_its_content(prints: Fingerprints, tmp_path: Path) -> None:
    """The clock of a server of files may be ahead: whether its ticks are over is never known."""
    path = tmp_path / "a.txt"
    path.write_text("a")
    to_come = time.time() + 1000
    os.utime(path, (to_come, to_come))
    began = time.monotonic()
    stamp = prints.stamp(path)
    assert time.monotonic() - began < 100
    assert stamp.digest == hash_file(path)
    assert prints.changed({str(path): stamp}) == []
    assert prints.changed({str(path): stamp._replace(digest="0" * 32)}) == [str(path)]


def test_whole_seconds_are_ticks_of_two() -> None:
    second = 10**9
    assert is_racy(Signature(1, 5 * second, 5 * second, 1), int(6.9 * second))
    assert not is_racy(Signature(1, 5 * second, 5 * second, 1), int(7.1 * second))
    assert not is_racy(Signature(1, 5 * second, 5 * second + 1, 1), int(5.1 * second))
    assert is_racy(Signature(1, 5 * second, 5 * second + 1, 1), int(5.01 * second))


def test_what_moved_on_since_it_was_looked_at_first(prints: Fingerprints, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    prints.stamp(path)
    assert not prints.has_moved_on(path)
    time.sleep(0.03)
    os.utime(path)
    prints.stamp(path)
    assert prints.has_moved_on(path)
    assert signature(tmp_path / "none") is None
