"""A scratch workspace with tiny seeded imagery, and the command run in it as a user does."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from rvbuild.engine.run.workers import apart
from rvbuild.language.user_code import forget_modules

from .projects import write_project

IMPORTED = ("numpy", "rasterio", "shapely", "fiona", "torch", "torchvision", "rvbuild.engine.run.worker")


def start_forkserver() -> None:
    """Start the process that starts workers, with the environment of now; it has imported what their stages need.

    Commands in this process find it running. In a process of its own, a command starts its own, and each of its workers
    that needs torch takes seconds to import it.
    """
    forkserver._forkserver._stop()
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(IMPORTED))
    with apart({}):
        forkserver.ensure_running()


@pytest.fixture(scope="session", autouse=True)
def _workers_start_at_once() -> None:
    start_forkserver()


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def did(self, state: str) -> set[str]:
        """Return the labels of the artifacts whose state is `state`, from --json."""
        return {
            a["stage"] + (f":{a['scene']}" if a["scene"] is not None else "")
            for a in self.json["artifacts"]
            if a["state"] == state
        }

    def reasons(self, label: str) -> list[str]:
        stage, _, scene = label.partition(":")
        for a in self.json["artifacts"]:
            if a["stage"] == stage and (a["scene"] or "") == scene:
                return list(a["reasons"])
        raise KeyError(label)


@dataclass
class Space:
    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project = self.root / "projects" / "p.toml"

    def rvbuild(self, *words: str, inline: bool = True) -> Result:
        """Run the command in this process, and what builds either inline, too, or in workers."""
        from rvbuild.cli import app

        inline = inline and words[0] in (
            "analyze",
            "chip",
            "train",
            "predict",
            "eval",
            "bundle",
            "report",
            "draft",
            "review",
            "build",
        )
        out, err = io.StringIO(), io.StringIO()
        before = Path.cwd()
        os.chdir(self.root)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = app.run([*words, *(["--inline"] if inline else [])])
        finally:
            os.chdir(before)
            # A worker would know nothing of another workspace.
            forget_modules()
        return Result(status, out.getvalue(), err.getvalue())

    def process(self, *words: str) -> Result:
        """Run the command in a process of its own."""
        run = subprocess.run(
            [sys.executable, "-m", "rvbuild", *words],
            cwd=self.root,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
        )
        return Result(run.returncode, run.stdout, run.stderr)

    def edit(self, old: str, new: str) -> None:
        text = self.project.read_text()
        assert old in text
        self.project.write_text(text.replace(old, new))

    def read(self, path: str) -> Any:
        """Return the content of a JSON file that the project shows."""
        return json.loads((self.root / "cache/p" / path).read_text())

    def shown(self, project: str = "p") -> dict[str, bytes]:
        """Return the content of each file of a project's artifacts; the logs of a running training are not of them."""
        base = self.root / "cache" / project
        paths = [path.relative_to(base) for path in sorted(base.rglob("*")) if path.is_file()]
        return {str(path): (base / path).read_bytes() for path in paths if path.parts[0] != "live"}


def write_labels(path: Path, boxes: list[tuple[float, float, float, float]], **dump: Any) -> None:
    """Write boxes (col, row, col, row in pixels of a `write_image` scene) as polygons in its CRS."""
    features = [
        {
            "type": "Feature",
            "properties": {"note": f"n{i}"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [
                        [500000 + x * 0.5, 5800000 - y * 0.5]
                        for x, y in [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
                    ]
                ],
            },
        }
        for i, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}, **dump))


def write_image(path: Path, boxes: list[tuple[float, float, float, float]], size: int = 64, seed: int = 0) -> None:
    """Write a 3-band uint8 GeoTIFF, bright inside the boxes."""
    random = np.random.default_rng(seed)
    image = random.integers(20, 90, (3, size, size), dtype=np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[:, int(y0) : int(y1), int(x0) : int(x1)] += 120
    profile = {
        "driver": "GTiff",
        "height": size,
        "width": size,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": from_origin(500000, 5800000, 0.5, 0.5),
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(image)


BOXES = {
    "a": [(5, 5, 25, 20), (35, 30, 60, 55)],
    "b": [(10, 30, 30, 60), (40, 4, 60, 24)],
    "c": [(8, 8, 30, 30), (36, 36, 58, 50)],
}


def write_workspace(root: Path) -> Path:
    """Write a workspace with three scenes and the project of segmentation into the directory `root`; return it."""
    (root / "data").mkdir()
    (root / "projects").mkdir()
    write_project(root, "segmentation")
    for i, (name, boxes) in enumerate(BOXES.items()):
        write_image(root / "data" / f"{name}.tif", boxes, seed=i)
        write_labels(root / "data" / f"{name}.geojson", boxes)
    return root


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workspace(tmp_path_factory.mktemp("template"))


@pytest.fixture
def space(template: Path, tmp_path: Path) -> Space:
    root = tmp_path / "ws"
    shutil.copytree(template, root)
    return Space(root)


@pytest.fixture(scope="session")
def built_templates(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what gives a workspace in which the project of a task was built."""

    @functools.cache
    def build(task: str) -> Path:
        root = tmp_path_factory.mktemp(task) / "ws"
        shutil.copytree(template, root)
        write_project(root, task)
        result = Space(root).rvbuild("build")
        assert result.status == 0, result.out + result.err
        return root

    return build


@pytest.fixture
def built_of(built_templates: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Space]:
    """Return what gives a workspace of a task in which everything was built."""

    def copy(task: str) -> Space:
        root = tmp_path / "ws"
        shutil.copytree(built_templates(task), root)
        space = Space(root)
        result = space.rvbuild("build", "--json")  # what is in other files now is looked at
        assert result.status == 0 and result.did("built") == set(), result.out + result.err
        return space

    return copy


@pytest.fixture
def built(built_of: Callable[[str], Space]) -> Space:
    return built_of("segmentation")


@pytest.fixture
def cells(built_of: Callable[[str], Space]) -> Space:
    return built_of("cells")


@pytest.fixture
def boxes(built_of: Callable[[str], Space]) -> Space:
    return built_of("boxes")
