"""Real stages that see no file of the workspace: they get what they read from a remote store, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fiona
import pytest

from rvbuild.engine.cluster.outpost import Outpost
from rvbuild.engine.remote.exchange import Exchange
from rvbuild.engine.run.worker import Failed, Job, failed
from rvbuild.engine.run.workers import Inline, error_of
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import RvbuildError
from rvbuild.progress import Progress
from rvbuild.project.model import Project
from rvbuild.session import session as module
from rvbuild.session.session import environment_of
from tests.e2e.conftest import BOXES, Space
from tests.e2e.test_imagery import FUNCTION, stacked
from tests.range_server import serving

__all__ = ["stacked"]

pytestmark = pytest.mark.slow


class Posted(Inline):
    """Runs stages in this process while the files of the workspace are hidden."""

    is_elsewhere = True

    def __init__(self, environment: Mapping[str, str | None], root: Path, exchange: Exchange, outpost: Outpost) -> None:
        super().__init__(environment)
        self._places = environment
        self._root, self._exchange, self._outpost = root, exchange, outpost

    def shares_no_files(self) -> bool:
        return True

    def run(self, job: Job, progress: Progress) -> Any:
        if job.making is None:
            return super().run(job, progress)
        self._exchange.require(job.making.contents, progress)
        inputs = [self._root / name for name in ("data", "own_pixels.py", "cache/p")]
        moved = [path for path in inputs if path.exists()]
        for path in moved:
            path.rename(f"{path}.hidden")
        run = super().run

        def attempt(job: Job, _: Callable[[str], str]) -> Any:
            try:
                return run(job, progress)
            except RvbuildError as error:
                return failed(error)

        try:
            result = self._outpost.run(job, self._places, attempt, progress, lambda: True)
        finally:
            for path in moved:
                shutil.rmtree(path, ignore_errors=True)
                Path(f"{path}.hidden").rename(path)
        if isinstance(result, Failed):
            raise error_of(result)
        return result


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that lets commands run stages through a remote store from now on."""

    def start(remote: str) -> None:
        monkeypatch.setenv("RVBUILD_REMOTE", remote)
        outpost = Outpost(tmp_path / "node", remote)

        def executor(workspace: Workspace, projects: Sequence[Project], *_: Any, **__: Any) -> Posted:
            exchange = Exchange(remote, workspace.root, workspace.store)
            return Posted(environment_of(workspace.root, projects), workspace.root, exchange, outpost)

        monkeypatch.setattr(module, "make_executor", executor)

    return start


def shapefiles(space: Space) -> None:
    """Give scenes labels in several files each."""
    for scene in "abc":
        with fiona.open(space.root / f"data/{scene}.geojson") as source:
            schema, features = source.schema, list(source)
            with fiona.open(
                space.root / f"data/{scene}.shp", "w", driver="ESRI Shapefile", crs=source.crs, schema=schema
            ) as target:
                target.writerecords(features)
        (space.root / f"data/{scene}.geojson").unlink()
    space.edit('"data/{id}.geojson"', '"data/{id}.shp"')


def clone(space: Space, root: Path) -> Space:
    shutil.copytree(space.root, root, ignore=shutil.ignore_patterns("cache"))
    return Space(root)


def test_stacks_code_of_users_and_labels_in_several_files(
    stacked: Space, tmp_path: Path, post: Callable[[str], None]
) -> None:
    shapefiles(stacked)
    there = clone(stacked, tmp_path / "there")
    result = stacked.rvbuild("build")
    assert result.status == 0, result.out + result.err
    post(str(tmp_path / "remote"))
    result = there.rvbuild("build", "--json")
    assert result.status == 0, result.out + result.err
    assert not result.did("failed") and {"train", "chip:a", "bundle"} <= result.did("built")
    shown = stacked.shown()
    assert there.shown() == {name: text for name, text in shown.items() if not name.startswith("chip/")}
    keys = [
        {path.name for path in folder.glob("*/*")}
        for folder in (tmp_path / "remote/actions", stacked.root / "cache/store/actions")
    ]
    assert keys[0] == keys[1]
    assert not list((tmp_path / "node/jobs").glob("*/*"))

    # The user's code may not read what is in no key, wherever it runs.
    (there.root / "own_pixels.py").write_text(FUNCTION.replace("return", "open('data/a.shp').close(); return"))
    result = there.rvbuild("chip", "-k")
    assert result.status == 1 and str(tmp_path / "node") not in result.out, result.out
    # What was asked for comes here.
    (there.root / "own_pixels.py").write_text(FUNCTION)
    assert there.rvbuild("chip").status == 0
    assert there.shown() == shown


def test_imagery_at_addresses_is_read_by_the_workers(space: Space, tmp_path: Path, post: Callable[[str], None]) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for scene in BOXES:
        shutil.move(space.root / f"data/{scene}.tif", away)
    with serving(away) as server:
        space.edit('"data/{id}.tif"', f'"{server.url}/{{id}}.tif"')
        there = clone(space, tmp_path / "there")
        assert space.rvbuild("chip").status == 0
        post(str(tmp_path / "remote"))
        assert there.rvbuild("chip").status == 0
        assert there.shown() == space.shown()
        sent = {path.stat().st_size for path in (tmp_path / "remote/objects").glob("*/*")}
        assert not sent & {path.stat().st_size for path in away.iterdir()}  # no image went through the store
