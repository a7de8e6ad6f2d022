"""The current directory is not on the module path, unless it contains rvbuild itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import rvbuild
from rvbuild.process.safe_path import protect


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setenv("PYTHONPATH", "")


def test_the_current_directory_leaves_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    sys.path[:0] = ["", str(tmp_path)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(tmp_path / "other")])
    protect()
    assert sys.path == before
    assert (os.environ["PYTHONPATH"], os.environ["PYTHONSAFEPATH"]) == (str(tmp_path / "other"), "1")


def test_the_directory_of_the_package_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes find rvbuild, even if the command is started in its checkout."""
    home = str(Path(rvbuild.__file__).resolve().parents[1])
    monkeypatch.chdir(home)
    sys.path[:] = [entry for entry in sys.path if entry not in ("", home)]
    sys.path.insert(0, home)
    protect()
    assert sys.path[-1] == home and sys.path.count(home) == 1
