from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from rvbuild.cli.session import rules


@pytest.fixture
def common():
    rules()
    return importlib.import_module(f"{rules().__name__}.common")


def test_names_are_safe_for_doit(common):
    assert common.name("chip", "potsdam", "2_10") == "chip:potsdam:2_10"
    assert common.name("chip", "p", "a=b*:c ü") == "chip:p:a%3Db%2A%3Ac %C3%BC"


def test_companions_of_rasters_and_vectors(common, tmp_path: Path):
    for name in ("a.tif", "a.tif.aux.xml", "a.tfw", "b.tfw", "x.shp", "x.dbf", "x.prj", "g.gpkg", "g.gpkg-wal"):
        (tmp_path / name).write_text("")
    names = common._siblings(tmp_path / "a.tif", {})
    assert [p.name for p in common._raster_companions(tmp_path / "a.tif", names)] == ["a.tif.aux.xml", "a.tfw"]
    assert [p.name for p in common._vector_companions(tmp_path / "x.shp", names)] == ["x.dbf", "x.prj"]
    assert [p.name for p in common._vector_companions(tmp_path / "g.gpkg", names)] == ["g.gpkg-wal"]
    assert common._siblings(tmp_path / "nowhere" / "a.tif", {}) == frozenset()


def test_a_virtual_raster_rests_on_its_sources(common, tmp_path: Path):
    (tmp_path / "m.vrt").write_text(
        '<VRTDataset><VRTRasterBand><SimpleSource><SourceFilename relativeToVRT="1">sub/a.tif</SourceFilename>'
        '</SimpleSource><SimpleSource><SourceFilename relativeToVRT="0">/data/b.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    assert common._raster_companions(tmp_path / "m.vrt", ()) == (tmp_path / "sub/a.tif", Path("/data/b.tif"))


def test_seeds_differ_by_artifact_and_project_seed(common):
    class Project:
        seed = 0

    class Other:
        seed = 1

    seeds = {common.seed(p, a) for p in (Project, Other) for a in ("chip:a", "chip:b", "train")}
    assert len(seeds) == 6
    assert all(0 <= s < 2**31 for s in seeds)
