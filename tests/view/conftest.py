"""Workspaces of the three tasks with results that are written by hand: nothing is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
from affine import Affine
from starlette.types import ASGIApp

from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.rasters import ClassRasterWriter
from rvbuild.project.load import load
from rvbuild.rules import common
from rvbuild.tasks.classification.cells import no_cells, write_cells
from rvbuild.tasks.detection.boxes import Detections, write_detections
from rvbuild.view.looking import Seen
from rvbuild.view.readers import Memo, Readers
from rvbuild.view.scenes import ViewedScene
from tests.api.conftest import write_workspace

SIDE = 64


@pytest.fixture
def readers() -> Iterator[Readers]:
    pool = Readers()
    yield pool
    pool.close()


@pytest.fixture
def memo() -> Memo:
    return Memo(100)


class Client:
    """Asks an application in this process, as a browser with its cookies does; redirections are not followed."""

    def __init__(self, app: ASGIApp, home: str) -> None:
        self.app, self.home, self.cookies = app, home, httpx.Cookies()

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run(self._ask("GET", path, headers))

    def post(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, headers))

    async def _ask(self, method: str, path: str, headers: dict[str, str] | None) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=self.home, cookies=self.cookies) as client:
            answer = await client.request(method, path, headers=headers)
        self.cookies.update(answer.cookies)
        return answer


class Results:
    """A workspace, and the outputs of artifacts that it is said to show."""

    def __init__(self, root: Path, task: str, readers: Readers) -> None:
        self.file = write_workspace(root, task)
        self.root, self.readers = root, readers
        self.by_name: dict[tuple[str, str | None], ArtifactStatus] = {}

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def folder(self, stage: str, scene: str | None, *names: str, state: State = State.FRESH) -> Path:
        """Say that an artifact shows files, and return the directory to write them to."""
        folder = f"cache/p/{stage}" + (f"/{scene}" if scene else "")
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        outputs = tuple(f"{folder}/{name}" for name in names)
        self.by_name[stage, scene] = ArtifactStatus("p", stage, scene, state, (), outputs, None, 1.5)
        return self.root / folder

    def seen(self) -> Seen:
        return Seen(load(self.file), states=tuple(self.by_name.values()), by_name=self.by_name)

    def scene(self, scene_id: str = "c") -> ViewedScene:
        seen = self.seen()
        return ViewedScene(seen, seen.scene(scene_id), self.readers)

    @property
    def grid(self) -> Grid:
        return self.scene().grid

    def predict_pixels(self, ids: np.ndarray, scene: str = "c") -> None:
        folder = self.folder("infer", scene, "raw_labels.tif")
        with ClassRasterWriter(
            folder / "raw_labels.tif", self.grid, common.classes(load(self.file)), temp=folder
        ) as to:
            to.write(0, ids)

    def draft(self, ids: np.ndarray, scene: str = "c", state: State = State.FRESH) -> None:
        folder = self.folder("draft", scene, "labels.tif", state=state)
        with ClassRasterWriter(folder / "labels.tif", self.grid, common.classes(load(self.file)), temp=folder) as to:
            to.write(0, ids)

    def predict_boxes(self, rows: list[tuple[float, float, float, float, int, float]]) -> None:
        folder, values = self.folder("predict", "c", "detections.json"), np.array(rows, dtype=float).reshape(-1, 6)
        boxes = Detections(self.grid, 0.1, values[:, :4], values[:, 4].astype(np.int64), values[:, 5])
        write_detections(folder / "detections.json", boxes)

    def predict_cells(self, scores: np.ndarray, cell_px: int, stage: str = "infer") -> None:
        folder = self.folder(stage, "c", "cells.json")
        cells = no_cells(self.grid, cell_px, [0, 1])
        cells.scores[:] = scores
        write_cells(folder / "cells.json", cells)


@pytest.fixture
def results_of(tmp_path: Path, readers: Readers) -> Callable[[str], Results]:
    return lambda task: Results(tmp_path / "ws", task, readers)


@pytest.fixture
def pixels(results_of: Callable[[str], Results]) -> Results:
    return results_of("segmentation")


def write_raster(path: Path, image: np.ndarray, transform: Affine | None = None, **profile: object) -> None:
    """Write (C, H, W) as a GeoTIFF."""
    count, height, width = image.shape
    place = {} if transform is None else {"transform": transform, "crs": "EPSG:32633"}
    settings = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": image.dtype.name}
    with rasterio.open(path, "w", **settings, **place, **profile) as file:
        file.write(image)
