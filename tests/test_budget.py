from __future__ import annotations

import resource
from pathlib import Path

import pytest

from rvbuild.errors import DataError
from rvbuild.files import budget


def test_limits_of_containers_count(tmp_path: Path) -> None:
    own, groups = tmp_path / "cgroup", tmp_path / "groups"
    (groups / "user/job").mkdir(parents=True)
    (groups / "memory").mkdir()
    (groups / "memory.max").write_text("max\n")
    (groups / "user/memory.max").write_text("2000\n")
    (groups / "user/job/memory.max").write_text("max\n")
    (groups / "memory/memory.limit_in_bytes").write_text("3000\n")
    own.write_text("0::/user/job\n")
    assert list(budget._limits(own, groups)) == [2000]
    own.write_text("5:cpu,cpuacct:/\n4:memory:/gone\n")
    assert list(budget._limits(own, groups)) == [3000]
    assert list(budget._limits(tmp_path / "none", tmp_path)) == []


def test_limits_of_the_shell_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (123_000, 456_000))
    assert budget.memory_bytes() == 123_000


def test_what_takes_more_than_there_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(bytes(1000))
    monkeypatch.setattr(budget, "memory_bytes", lambda: 12_000)
    assert budget.content_of(path) == bytes(1000)
    monkeypatch.setattr(budget, "memory_bytes", lambda: 2_000_000)
    budget.require(2e6, "it", "Less")
    with pytest.raises(DataError, match=r"^it needs about 3 MB of memory; 2 MB is available\. Less$"):
        budget.require(3e6, "it", "Less")
    monkeypatch.setattr(budget, "memory_bytes", lambda: 11_999)
    with pytest.raises(DataError, match=r"a\.json: reading it needs about .* Split it into several files"):
        budget.content_of(path)
    monkeypatch.setattr(budget, "memory_bytes", lambda: None)
    assert budget.content_of(path) == bytes(1000)
