"""Statistics beside a raster are no edit of it; all else is."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

STATISTICS = """<PAMDataset>
  <Metadata><MDI key="XML_com.adobe.xmp">text</MDI></Metadata>
  <Metadata domain="IMAGE_STRUCTURE"><MDI key="INTERLEAVE">PIXEL</MDI></Metadata>
  <PAMRasterBand band="1">
    <Histograms><HistItem><HistMin>0</HistMin></HistItem></Histograms>
    <Metadata><MDI key="STATISTICS_MEAN">132.9</MDI></Metadata>
  </PAMRasterBand>
</PAMDataset>
"""


@pytest.fixture
def sort():
    return importlib.import_module("rvbuild.rules.inputs.sidecars").sort


def test_statistics_do_not_count(sort, tmp_path: Path) -> None:
    sidecar = tmp_path / "a.tif.aux.xml"
    sidecar.write_text(STATISTICS)
    counted, ((path, seen),) = sort([sidecar, tmp_path / "a.tfw"])
    assert counted == (tmp_path / "a.tfw",)
    assert path == sidecar and seen.size == len(STATISTICS)


@pytest.mark.parametrize(
    "more",
    [
        "<SRS>EPSG:32633</SRS>",
        "<GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>",
        '<Metadata domain="RPC"><MDI key="LINE_OFF">1</MDI></Metadata>',
        '<Metadata domain="IMAGE_STRUCTURE"><MDI key="PIXELTYPE">SIGNEDBYTE</MDI></Metadata>',
        '<PAMRasterBand band="2"><NoDataValue>0</NoDataValue></PAMRasterBand>',
        '<PAMRasterBand band="2"><ColorInterp>Alpha</ColorInterp></PAMRasterBand>',
        "<Unknown/>",
        "<torn",
    ],
)
def test_what_else_is_said_counts(sort, tmp_path: Path, more: str) -> None:
    sidecar = tmp_path / "a.tif.aux.xml"
    sidecar.write_text(STATISTICS.replace("</PAMDataset>", f"{more}</PAMDataset>"))
    assert sort([sidecar]) == ((sidecar,), ())


def test_a_document_type_counts_and_is_not_followed(sort, tmp_path: Path) -> None:
    sidecar = tmp_path / "a.tif.aux.xml"
    sidecar.write_text(f'<!DOCTYPE a [<!ENTITY mean "132.9">]>{STATISTICS.replace("132.9", "&mean;")}')
    assert sort([sidecar]) == ((sidecar,), ())


def test_a_document_that_is_nested_too_deeply_counts(sort, tmp_path: Path) -> None:
    sidecar = tmp_path / "a.tif.aux.xml"
    sidecar.write_text("<PAMDataset>" + "<Metadata>" * 200 + "</Metadata>" * 200 + "</PAMDataset>")
    assert sort([sidecar]) == ((sidecar,), ())
