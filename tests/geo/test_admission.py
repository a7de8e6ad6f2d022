"""Files that are something else than their names say, or lead where nothing may be read, are refused before GDAL."""

from __future__ import annotations

import json
import os
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from rvbuild.errors import DataError
from rvbuild.files.urls import Url
from rvbuild.geo.gdal import admission
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.vector.files import read_features


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace beside which there is a private image and a private table."""
    place = tmp_path / "workspace"
    place.mkdir()
    (tmp_path / "secret").mkdir()
    write(tmp_path / "secret" / "s.tif")
    (tmp_path / "secret" / "s.csv").write_text("a,b\n1,2\n")
    allow(monkeypatch, place)
    return place


def allow(monkeypatch: pytest.MonkeyPatch, workspace: Path | None, *places: str) -> None:
    for name, value in admission.environment(workspace, places).items():
        monkeypatch.setenv(name, value)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"transform": from_origin(0, 8, 1, 1), "crs": "EPSG:32633", "dtype": "uint8", "count": 1}
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, **profile) as file:
        file.write(np.ones((1, 8, 8), "uint8"))
    return path


def text(source: str) -> str:
    return (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"{source}<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def vrt(path: Path, name: str, relative: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'))
    return path


def refuses(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as error:
        open_dataset(path).close()
    for word in words:
        assert word in str(error.value)


@pytest.fixture
def server() -> Iterator[tuple[int, socket.socket]]:
    """Return a port at which nobody must ever call."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.2)
        yield listening.getsockname()[1], listening
        with pytest.raises(TimeoutError):
            listening.accept()


def test_files_open_as_what_they_are_called(workspace: Path, server: tuple[int, socket.socket]) -> None:
    address = f"http://127.0.0.1:{server[0]}/x.tif"
    wms = f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}</ServerUrl></Service></GDAL_WMS>'
    for name, content in (("w.tif", wms), ("w.xml", wms), ("w.vrt", wms), ("w", f"\n {wms}")):
        (workspace / name).write_text(content)
        refuses(workspace / name, name, "map server")
    remote = f'<SourceFilename relativeToVRT="0">/vsicurl/{address}</SourceFilename>'
    (workspace / "v.tif").write_text(text(remote))
    refuses(workspace / "v.tif", "virtual raster", "rename it to .vrt")
    (workspace / "v.vrt").write_text(text(remote))
    refuses(workspace / "v.vrt", address, 'allow = ["http://127.0.0.1')
    (workspace / "hidden.tif").write_bytes(b"II*\0" + bytes(100) + text(remote).encode())
    refuses(workspace / "hidden.tif", "virtual raster")
    (workspace / "stac.json").write_text(f'{{"stac_version": "1.0.0", "assets": {{"a": {{"href": "{address}"}}}}}}')
    refuses(workspace / "stac.json")
    vrt(workspace / "of_stac.vrt", "stac.json")
    refuses(workspace / "of_stac.vrt", "stac.json")


def test_sources_are_in_the_workspace_or_allowed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = workspace.parent / "secret"
    inner = vrt(workspace / "deep/inner.vrt", "../../secret/s.tif")
    outer = vrt(workspace / "deep/more/outer.vrt", "../inner.vrt")
    for path in (inner, outer, vrt(workspace / "absolute.vrt", str(secret / "s.tif"), 0)):
        refuses(path, str(secret), f'allow = ["{secret}"]')
    (workspace / "link.tif").symlink_to(secret / "s.tif")
    refuses(vrt(workspace / "l.vrt", "link.tif"), "allow")
    (workspace / "deep" / "s.tif").write_bytes((secret / "s.tif").read_bytes())
    open_dataset(vrt(workspace / "deep/more/fine.vrt", "../s.tif")).close()
    allow(monkeypatch, workspace, str(secret))
    for path in (inner, outer):
        open_dataset(path).close()
    allow(monkeypatch, None)
    refuses(workspace / "deep/more/fine.vrt", "allow")  # as of an image of a bundle: its own directory is all
    open_dataset(vrt(workspace / "deep/below.vrt", "s.tif")).close()


@pytest.mark.parametrize(
    "source",
    [
        "<sourcefilename>{}</sourcefilename>",
        '<X SourceFilename="{}"/>',
        "<SourceFilename>x.tif</SourceFilename><MaskBand><SourceFilename>{}</SourceFilename></MaskBand>",
        "<SourceDataset>{}</SourceDataset>",
        "<SourceFilename>vrt://{}?bands=1</SourceFilename>",
        '<SourceFilename>NETCDF:"{}":band</SourceFilename>',
        "<RPCTransformer><DEMPath>{}</DEMPath></RPCTransformer>",
        '<Metadata><MDI key="X_DATASET">{}</MDI></Metadata>',
        '<Option name="RPC_DEM">{}</Option>',
        "<Unknown>/vsizip/{}/x.tif</Unknown>",
        "<SourceFilename><!-- --><!-- -->{}</SourceFilename>",
    ],
)
def test_however_a_source_is_named(workspace: Path, source: str) -> None:
    (workspace / "x.tif").write_bytes((workspace.parent / "secret/s.tif").read_bytes())
    (workspace / "v.vrt").write_text(text(source.format(workspace.parent / "secret/s.tif")))
    refuses(workspace / "v.vrt")


@pytest.mark.parametrize(
    "name",
    [
        "/vsistdin/",
        "/vsimem/x.tif",
        "/vsizip//vsicurl/http://127.0.0.1:1/x.zip/a.tif",
        "WMS:http://127.0.0.1:1/",
        "http://127.0.0.1:1/x.tif",
        "&lt;GDAL_WMS/&gt;",
        "MEM:::DATAPOINTER=1",
    ],
)
def test_what_is_no_file_is_no_source(workspace: Path, name: str) -> None:
    refuses(vrt(workspace / "v.vrt", name, 0), "v.vrt")


def test_code_and_entities_are_refused(workspace: Path) -> None:
    write(workspace / "x.tif")
    code = "<PixelFunctionLanguage> Python </PixelFunctionLanguage><SourceFilename>x.tif</SourceFilename>"
    (workspace / "p.vrt").write_text(text(code))
    refuses(workspace / "p.vrt", "Python")
    entity = '<!DOCTYPE v [<!ENTITY x "/etc/passwd">]>' + text("<SourceFilename>&x;</SourceFilename>")
    (workspace / "e.vrt").write_text(entity)
    refuses(workspace / "e.vrt", "document type")
    (workspace / "t.vrt").write_text(text("<SourceFilename>x.tif<SourceFilename>"))
    refuses(workspace / "t.vrt", "not well-formed")
    admission.require(vrt(workspace / "r.vrt", "r.vrt"))  # ends, though it leads to itself


def test_a_source_that_is_lost_is_never_read_as_zeros(workspace: Path) -> None:
    source = write(workspace / "deep/s.tif")
    vrt(workspace / "deep/inner.vrt", "s.tif")
    path = vrt(workspace / "outer.vrt", "deep/inner.vrt")
    content = source.read_bytes()
    for _ in range(20):
        source.unlink()
        refuses(path, "inner.vrt", "s.tif, which does not exist")
        source.write_bytes(content)
        with open_dataset(path) as dataset:
            assert dataset.read().all()


def test_masks_and_overviews_are_plain(workspace: Path) -> None:
    path = write(workspace / "a.tif")
    for ending in (".msk", ".ovr"):
        sidecar = vrt(workspace / f"a.tif{ending}", str(workspace.parent / "secret/s.tif"), 0)
        refuses(path, sidecar.name, "virtual raster")
        refuses(vrt(workspace / "m.vrt", "a.tif"), sidecar.name)
        sidecar.unlink()
    described = workspace / "a.tif.aux.xml"
    described.write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">../s.tif</MDI></Metadata></PAMDataset>'
    )
    refuses(path, "a.tif.aux.xml", "overviews")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.tif.aux.xml", "a.tif.msk", "a.TFW", "a.prj"])
def test_a_pipe_beside_an_image_is_not_opened(workspace: Path, name: str) -> None:
    write(workspace / "a.tif")
    os.mkfifo(workspace / name)
    with pytest.raises(DataError, match=f"{name}: is a pipe, a socket or a device; expected a file that belongs to"):
        admission.require(workspace / "a.tif")


def test_archives_lead_nowhere(workspace: Path) -> None:
    secret = workspace.parent / "secret/s.tif"
    with zipfile.ZipFile(workspace / "z.zip", "w") as file:
        file.write(secret, "s.tif")
        file.writestr("v.tif", text(f"<SourceFilename>{secret}</SourceFilename>"))
    open_dataset(vrt(workspace / "fine.vrt", f"/vsizip/{workspace}/z.zip/s.tif", 0)).close()
    refuses(vrt(workspace / "v.vrt", f"/vsizip/{workspace}/z.zip/v.tif", 0), "Unpack")
    (workspace.parent / "secret/z.zip").write_bytes((workspace / "z.zip").read_bytes())
    refuses(vrt(workspace / "d.vrt", "z.zip"), "expected a file")
    refuses(vrt(workspace / "o.vrt", f"/vsizip/{workspace.parent}/secret/z.zip/s.tif", 0), "allow")


def test_servers_are_allowed_by_their_beginning(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = vrt(workspace / "v.vrt", "/vsicurl/https://good.example/tiles/x.tif", 0)
    allow(monkeypatch, workspace, "https://good.example/tiles/")
    admission.require(path)
    for other in ("https://good.example.evil.example/tiles/x.tif", "https://good.example/x.tif"):
        vrt(path, f"/vsicurl/{other}", 0)
        with pytest.raises(DataError, match="allow"):
            admission.require(path)
    admission.require(Url("https://elsewhere.example/x.tif"))  # the project names it
    assert json.loads(admission.environment(None, ["b", "a", "b"])[admission.ALLOWED]) == ["a", "b"]


LAYER = '<OGRVRTDataSource><OGRVRTLayer name="s">{}</OGRVRTLayer></OGRVRTDataSource>'


@pytest.mark.parametrize(
    "inner",
    [
        "<SrcDataSource>{}</SrcDataSource>",
        '<SrcDataSource relativeToVRT="1">../secret/s.csv</SrcDataSource>',
        "<srcdatasource>{}</srcdatasource>",
        "<SrcDataSource relativeToVRT=\"1\">x.csv</SrcDataSource><SrcSQL>select * from x join '{}'.s on 1=1</SrcSQL>",
        '<SrcDataSource relativeToVRT="1">x.csv</SrcDataSource><SrcSQL>select load_extension("x")</SrcSQL>',
        "<SrcDataSource>PG:dbname=x</SrcDataSource>",
        "<SrcDataSource>http://127.0.0.1:1/x.geojson</SrcDataSource>",
    ],
)
def test_virtual_vectors_lead_nowhere_else(workspace: Path, inner: str) -> None:
    (workspace / "x.csv").write_text("a\n1\n")
    (workspace / "v.vrt").write_text(LAYER.format(inner.format(workspace.parent / "secret/s.csv")))
    with pytest.raises(DataError, match=r"v\.vrt"):
        read_features(workspace / "v.vrt")
    (workspace / "v.geojson").write_text((workspace / "v.vrt").read_text())
    with pytest.raises(DataError, match=r"virtual vector file .*rename it to \.vrt"):
        read_features(workspace / "v.geojson")
