"""Parsers of what strangers write: no exception but messages, no hang, no growth, whatever the bytes."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from rvbuild.errors import DataError, ProjectError
from rvbuild.files.zipped import members
from rvbuild.geo.vector.box_files import read_box_file
from rvbuild.language import filters
from rvbuild.project.load import load
from tests.fuzz import readers
from tests.fuzz.fuzzing import CORPUS, LONG, in_children, source_of

TEXTS = ["texts:project", "texts:filter_", "texts:expression", "texts:stac"]
BOXES = ["readers:coco", "readers:voc", "readers:table", "readers:archive"]
VECTORS = [f"readers:{kind}" for kind in ("geojson", "gpkg", "flatgeobuf", "shapefile", "gml", "kml")]
FEW = 150
"""Inputs of each kind in the suite; `RVBUILD_FUZZ` says another number."""


@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("target", [*TEXTS, *BOXES, *VECTORS, "readers:raster"])
def test_any_input_is_read_or_a_message(target: str) -> None:
    tried = in_children(f"tests.fuzz.{target}", LONG or FEW)
    assert tried.wrong == []
    assert tried.count == (LONG or FEW)
    assert tried.accepted, "what is mutated is nothing that is read"
    # GDAL dies of some files; that it is a worker that dies is what `test_check` of the commands is about.
    assert not tried.dead or target in (*VECTORS, "readers:raster"), tried.dead
    if LONG:
        print(f"\n{target}: {tried.count:,} tried, {tried.accepted:,} read, {len(tried.dead)} of which a process died")


@pytest.mark.parametrize("target", [*BOXES[:-1], *VECTORS, "readers:raster"])
def test_what_is_mutated_is_read_as_it_is(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "mutated", lambda _source, content, _words=(): content)
    getattr(readers, target.partition(":")[2])(source_of(1, 0), tmp_path)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.xz")), ids=lambda path: path.name)
def test_the_corpus_holds_what_it_should(path: Path) -> None:
    assert lzma.decompress(path.read_bytes())


@pytest.mark.parametrize("path", sorted(CORPUS.glob("filter-*.txt")), ids=lambda path: path.name)
def test_filters_that_were_found(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    try:
        filters.matches(filters.parse(text), {"t": "a" * 2000}.get)
    except filters.FilterError as error:
        assert len(str(error)) < 1000


@pytest.mark.parametrize("path", sorted(CORPUS.glob("project-*.toml")), ids=lambda path: path.name)
def test_project_files_that_were_found(path: Path) -> None:
    with pytest.raises(ProjectError, match=r"scene\.aoi\[0\]"):
        load(path, environ={})


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.zip")), ids=lambda path: path.name)
def test_zips_that_were_found(path: Path) -> None:
    with pytest.raises(DataError, match=path.name):
        members(path)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("boxes-*")), ids=lambda path: path.name)
def test_box_files_that_were_found(path: Path) -> None:
    kind = {".json": "coco", ".xml": "voc", ".csv": "csv"}[path.suffix]
    with pytest.raises(DataError, match=path.name):
        read_box_file(path, {"kind": kind, "image": None, "scene_image": "a.tif"})
