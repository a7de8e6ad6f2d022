"""A project file that is right, and fixtures that load variations of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from rvbuild.errors import ProjectError
from rvbuild.project.load import load
from rvbuild.project.model import Project

BASE = """\
[project]
task = "semantic_segmentation"

[classes]
car = "#ffff00"
tree = "#00ff00"

[scenes]
train = ["a", "b"]
validation = ["c"]

[scene]
image = "data/{id}.tif"
labels = { raster = "data/{id}_label.tif" }

"""

Loader = Callable[..., Project]
Problems = Callable[..., list[str]]


@pytest.fixture
def base() -> str:
    """Fifteen lines; what a test adds begins in line 16."""
    return BASE


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, which is the current directory."""
    (tmp_path / "projects").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def loaded(workspace: Path) -> Loader:
    """Load a text as `projects/p.toml`."""

    def load_it(text: str = BASE, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Project:
        path = Path("projects/p.toml")
        path.write_bytes(text.encode())
        return load(path, overrides, environ or {})

    return load_it


@pytest.fixture
def problems(loaded: Loader) -> Problems:
    """Return the problems of a text as `projects/p.toml`."""

    def find(text: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> list[str]:
        try:
            loaded(text, overrides, environ)
        except ProjectError as error:
            return list(error.problems)
        return []

    return find
