from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rvbuild.files import remembered
from rvbuild.files.remembered import Remembered
from rvbuild.files.urls import Url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.geojson"
    path.write_text("one")
    return path


@pytest.fixture
def reader(path: Path) -> Callable[[], str]:
    memory, calls = Remembered[str](), list[str]()

    def read() -> str:
        calls.append("read")
        return path.read_text()

    return lambda: f"{memory.read(path, 'all', read)} {len(calls)}"


def test_a_file_is_read_again_only_if_its_content_has_changed(path: Path, reader: Callable[[], str]) -> None:
    assert [reader(), reader()] == ["one 1", "one 1"]
    path.touch()
    assert reader() == "one 1"
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert reader() == "two 2"
    path.write_text("one")
    assert reader() == "one 3"


def test_what_is_asked_for_counts(path: Path) -> None:
    memory = Remembered[str]()
    assert memory.read(path, "a", lambda: "of a") == "of a"
    assert memory.read(path, "b", lambda: "of b") == "of b"
    assert memory.read(path, "a", lambda: "again") == "of a"


def test_a_file_that_changes_while_it_is_read_is_not_remembered(path: Path) -> None:
    memory = Remembered[str]()

    def read() -> str:
        path.write_text("other")
        return "mixed"

    assert memory.read(path, "all", read) == "mixed"
    assert memory.read(path, "all", lambda: "whole") == "whole"


def test_files_read_long_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 10)
    memory = Remembered[str]()
    for name in "abc":
        (tmp_path / f"{name}.geojson").write_text("1234")
        memory.read(tmp_path / f"{name}.geojson", "all", lambda: "before")
    now = [memory.read(tmp_path / f"{name}.geojson", "all", lambda: "now") for name in "cb"]
    assert now == ["before", "before"]
    assert memory.read(tmp_path / "a.geojson", "all", lambda: "now") == "now"


@pytest.mark.parametrize("path", [Path("missing.geojson"), Path("a.shp"), Url("https://127.0.0.1/a.geojson")])
def test_other_files_are_read_each_time(path: Path) -> None:
    memory, values = Remembered[int](), iter(range(2))
    assert [memory.read(path, "all", lambda: next(values)) for _ in range(2)] == [0, 1]


def test_threads_remember_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 500)
    path = tmp_path / "a.geojson"
    path.write_text("1")
    memory, interval = Remembered[int](), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda number: memory.read(path, number, lambda: number), range(800))) == [*range(800)]
    finally:
        sys.setswitchinterval(interval)
