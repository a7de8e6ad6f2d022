"""What a shell may hold of GDAL's, PROJ's and torch's variables: it changes no result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rvbuild.errors import UsageError
from rvbuild.process.variables import PINNED, for_workers, hidden, problems

LEFT_ASIDE = """
    GDAL_DISABLE_READDIR_ON_OPEN GDAL_TIFF_ENDIANNESS GDAL_DRIVER_PATH GDAL_SKIP GDAL_PAM_ENABLED GDAL_DATA
    OGR_SKIP OGR_DRIVER_PATH OGR_GEOJSON_MAX_OBJ_SIZE OSR_WKT_FORMAT CPL_ZIP_ENCODING CPL_VSIL_ZIP_ALLOWED_EXTENSIONS
    PROJ_LIB PROJ_DATA PROJ_ONLY_BEST_DEFAULT GTIFF_POINT_GEO_IGNORE COMPRESS_OVERVIEW ZLEVEL_OVERVIEW SHAPE_ENCODING
    THRESHOLD OMP_NUM_THREADS MKL_CBWR OPENBLAS_CORETYPE NPY_DISABLE_CPU_FEATURES ATEN_CPU_CAPABILITY
    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE NVIDIA_TF32_OVERRIDE KMP_BLOCKTIME PYTHONWARNINGS
""".split()  # noqa: SIM905 - easier to read
PASSING = """
    AWS_PROFILE AWS_ACCESS_KEY_ID AWS_S3_ENDPOINT GS_ACCESS_KEY_ID AZURE_STORAGE_ACCOUNT GOOGLE_APPLICATION_CREDENTIALS
    GDAL_HTTP_PROXY GDAL_HTTP_TIMEOUT GDAL_HTTP_HEADER_FILE GDAL_HTTPS_PROXY GDAL_CACHEMAX GDAL_NUM_THREADS VSI_CACHE
    CPL_VSIL_CURL_CHUNK_SIZE CPL_AWS_CREDENTIALS_FILE CPL_GS_ENDPOINT CPL_DEBUG CPL_TMPDIR CURL_CA_BUNDLE https_proxy
    TORCH_HOME PYTORCH_CUDA_ALLOC_CONF CUDA_VISIBLE_DEVICES KMP_DUPLICATE_LIB_OK HOME PATH LD_LIBRARY_PATH PYTHONPATH
    SLURM_JOB_ID RVBUILD_THREADS GDALISH RAW_DATA OSM_DATA
""".split()  # noqa: SIM905 - as above


def test_what_passes_and_what_does_not() -> None:
    assert hidden([*LEFT_ASIDE, *PASSING]) == sorted(LEFT_ASIDE)
    environment = for_workers({**dict.fromkeys([*LEFT_ASIDE, *PASSING], "x"), "TZ": "Asia/Tokyo"})
    assert {name for name, value in environment.items() if value is None} == {*LEFT_ASIDE} - {
        "OMP_NUM_THREADS",
        *PINNED,
    }
    assert {name: environment[name] for name in PASSING if name in environment} == {"RVBUILD_THREADS": "x"}
    assert {name: environment[name] for name in PINNED} == PINNED


def test_threads_are_those_that_rvbuild_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "3")
    assert for_workers({"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "3"
    assert for_workers({"RVBUILD_THREADS": "3"})["RVBUILD_THREADS"] == "3"  # whatever starts workers had another
    assert for_workers({})["RVBUILD_THREADS"] is None
    monkeypatch.setenv("RVBUILD_THREADS", "many")
    with pytest.raises(UsageError, match="RVBUILD_THREADS"):
        for_workers({})


def test_tables_that_are_not_where_a_variable_says(tmp_path: Path) -> None:
    assert problems({"HOME": "x", "PROJ_DATA": ""}) == []
    (line,) = problems({"PROJ_DATA": "/no/such/place"})
    assert line.startswith("PROJ_DATA=/no/such/place: there is no proj.db; ")
    (tmp_path / "proj.db").touch()
    assert problems({"PROJ_LIB": f"/no/such/place{os.pathsep}{tmp_path}"}) == []


#: Reads an image with a mask beside it and labels in another CRS, writes a raster and vectors, and computes.
WORK = """
    import os, sys
    from pathlib import Path
    if sys.argv[2] == "as a worker":
        from rvbuild.engine.run.worker import set_variables
        from rvbuild.process.variables import for_workers
        set_variables(for_workers(os.environ))
    os.environ["OGR_CURRENT_DATE"] = "1970-01-01T00:00:00Z"
    import hashlib, json
    import fiona, fiona.transform, numpy as np, rasterio
    found = {}
    def say(name, value):
        found[name] = hashlib.sha256(value).hexdigest()[:8]
    here = Path(sys.argv[1])
    try:
        with rasterio.open(here / "image.tif") as image:
            say("pixels", image.read().tobytes())
            say("mask", image.dataset_mask().tobytes())
            say("place", str((image.transform, image.crs.to_wkt())).encode())
        with fiona.open(here / "points.shp") as points:
            rows = [(f["properties"]["name"], f["geometry"]["coordinates"]) for f in points]
            say("features", ascii(rows).encode())
        say("projected", repr(fiona.transform.transform("EPSG:4326", "EPSG:27700", [-1.5], [53.0])).encode())
        out = here / f"out-{os.getpid()}"
        out.mkdir()
        grid = dict(height=300, width=300, count=1, dtype="uint8", crs="EPSG:32633")
        place = rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)
        with rasterio.open(out / "a.tif", "w", driver="GTiff", transform=place, **grid) as file:
            file.write(np.arange(90000, dtype="uint32").reshape(1, 300, 300).astype("uint8"))
            file.build_overviews([2, 4])
        say("GeoTIFF", (out / "a.tif").read_bytes())
        schema = {"geometry": "Point", "properties": {"id": "int32", "at": "datetime"}}
        record = {"type": "Feature", "properties": {"id": 1, "at": "2026-07-01T12:00:00"},
                  "geometry": {"type": "Point", "coordinates": (1 / 3, 2.0)}}
        for driver, name in (("GPKG", "a.gpkg"), ("GeoJSON", "a.geojson")):
            with fiona.open(out / name, "w", driver=driver, schema=schema, crs="EPSG:4326") as file:
                file.write(record)
            say(driver, (out / name).read_bytes())
    except Exception as error:
        found["error"] = repr(error)
    print(json.dumps(found))
"""

HOSTILE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_TIFF_ENDIANNESS": "BIG",
    "GDAL_TIFF_OVR_BLOCKSIZE": "64",
    "COMPRESS_OVERVIEW": "DEFLATE",
    "GTIFF_POINT_GEO_IGNORE": "YES",
    "SHAPE_ENCODING": "CP437",
    "OGR_CURRENT_DATE": "2020-01-01T00:00:00Z",
    "OGR_SQLITE_PRAGMA": "page_size=512",
    "PROJ_DATA": "/no/such/place",
    "PROJ_LIB": "/no/such/place",
    "GDAL_DATA": "/no/such/place",
    "OGR_SKIP": "ESRI Shapefile",
    "GDAL_DRIVER_PATH": "/no/such/place",
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "GDAL_CACHEMAX": "1",
    "TZ": "Asia/Tokyo",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "random",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import fiona
    import numpy as np
    import rasterio

    folder = tmp_path_factory.mktemp("data")
    profile = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(folder / "image.tif", "w", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), **profile) as file,
    ):
        file.update_tags(AREA_OR_POINT="Point")
        file.write(np.arange(64, dtype="uint8").reshape(1, 8, 8))
        file.write_mask(np.eye(8, dtype="uint8") * 255)
    schema = {"geometry": "Point", "properties": {"name": "str"}}
    with fiona.open(
        folder / "points.shp", "w", driver="ESRI Shapefile", schema=schema, crs="EPSG:4326", encoding="ISO-8859-1"
    ) as file:
        geometry = {"type": "Point", "coordinates": (1.0, 2.0)}
        file.write({"type": "Feature", "properties": {"name": "Größe"}, "geometry": geometry})
    (folder / "home" / ".gdal").mkdir(parents=True)
    (folder / "home" / ".gdal" / "gdalrc").write_text("[configoptions]\nGDAL_TIFF_INTERNAL_MASK_TO_8BIT=NO\n")
    (folder / "gdalrc").write_text("[directives]\nignore-env-variables=yes\n[configoptions]\nGDAL_SKIP=GTiff\n")
    return folder


def work(data: Path, way: str, environment: dict[str, str]) -> dict[str, str]:
    """Return what the work gives in a process with `environment`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORK), str(data), way],
        env={name: value for name, value in os.environ.items() if name not in HOSTILE} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    digests: dict[str, str] = json.loads(done.stdout)
    return digests


@pytest.mark.slow
def test_no_variable_changes_a_byte(data: Path) -> None:
    expected = work(data, "as a worker", {})
    assert expected.keys() == {"pixels", "mask", "place", "features", "projected", "GeoTIFF", "GPKG", "GeoJSON"}
    hostile = {**HOSTILE, "GDAL_CONFIG_FILE": str(data / "gdalrc"), "HOME": str(data / "home")}
    assert work(data, "as a worker", hostile) == expected
    # Each of these would.
    ignored = {"GDAL_DISABLE_READDIR_ON_OPEN", "GDAL_TIFF_ENDIANNESS", "GTIFF_POINT_GEO_IGNORE", "SHAPE_ENCODING"}
    changed = work(data, "as it is", {name: HOSTILE[name] for name in ignored})
    assert {"mask", "GeoTIFF", "place", "features"} <= {n for n in expected if changed.get(n) != expected[n]}


POOL = """
    import os, sys
    from pathlib import Path
    from rvbuild.engine.run.worker import Job
    from rvbuild.engine.run.workers import Pool
    from rvbuild.progress import Silent
    from rvbuild.process.variables import for_workers
    if __name__ == "__main__":
        pool = Pool(for_workers(os.environ), Path(sys.argv[1]))
        print(pool.run(Job("look:look", {}, reports=False), Silent()))
        pool.close()
        print(os.environ.get("PYTHONHASHSEED"), os.environ["TZ"])
"""
LOOK = """
    import os, time
    def look():
        return [list({str(i) for i in range(9)}), time.tzname[0], os.environ.get("OGR_SKIP"), os.environ["AWS_PROFILE"]]
"""


def test_workers_have_other_variables_than_this_process(tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(textwrap.dedent(LOOK))
    (tmp_path / "run.py").write_text(textwrap.dedent(POOL))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    environment |= {"TZ": "Asia/Tokyo", "OGR_SKIP": "GeoJSON", "AWS_PROFILE": "me"}
    run = [sys.executable, str(tmp_path / "run.py"), str(tmp_path)]
    place = f"{Path(__file__).parents[1]}{os.pathsep}{tmp_path}"
    out = subprocess.run(
        run, env={**environment, "PYTHONPATH": place}, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    order = subprocess.run(
        [sys.executable, "-c", "print(list({str(i) for i in range(9)}))"],
        env={**environment, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert out.splitlines() == [f"[{order}, 'UTC', None, 'me']", "None Asia/Tokyo"]
