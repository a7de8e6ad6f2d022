"""QGIS itself opens the files in the colours and with the names of the classes; skipped where it is not installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rvbuild.geo.grid import Grid
from rvbuild.geo.write.qgis import write_raster_style, write_score_style, write_vector_style
from rvbuild.geo.write.rasters import ClassRasterWriter, ScoreRasterWriter
from rvbuild.geo.write.vectors.features import write_features

PYTHON = "/usr/bin/python3"
"""That of the system, for which QGIS is packaged."""

LOOK = """
import json, os, sys
from qgis.core import QgsApplication, QgsRasterLayer, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
found = {}
for path in sys.argv[1:]:
    raster = path.endswith(".tif")
    layer = QgsRasterLayer(path, "a") if raster else QgsVectorLayer(path, "a", "ogr")
    renderer = layer.renderer()
    if not raster:
        legend = [[item.label(), item.symbol().color().name()] for item in renderer.legendSymbolItems()]
    elif renderer.type() == "paletted":
        legend = [[text, colour.name()] for text, colour in renderer.legendSymbologyItems()]
    else:
        stretch = renderer.contrastEnhancement()
        legend = [stretch.minimumValue(), stretch.maximumValue(), renderer.alphaBand()]
    found[os.path.basename(path)] = [layer.isValid(), layer.loadDefaultStyle()[1], legend]
print(json.dumps(found), flush=True)
os._exit(0)
"""

GRID = Grid(64, 48, Affine(0.5, 0, 4e5, 0, -0.5, 5e6), CRS.from_epsg(32633))
CLASSES = [
    {"id": 0, "name": 'car "<fast>" & more', "color": "#ffff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "bâtiment", "color": "#0000ff"},
]
KNOWN = [CLASSES[0], CLASSES[2]]


def look(*paths: Path) -> dict[str, Any]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(paths[0].parent), "QT_QPA_PLATFORM": "offscreen"}
    command = [PYTHON, "-c", LOOK, *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=paths[0].parent)
    if "No module named 'qgis'" in run.stderr:
        pytest.skip("the system's Python has no QGIS (Debian: python3-qgis)")
    assert run.returncode == 0, run.stderr
    report: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return report


@pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"there is no {PYTHON}")
def test_colours_and_names_in_qgis(tmp_path: Path) -> None:
    with ClassRasterWriter(tmp_path / "labels.tif", GRID, CLASSES, temp=tmp_path) as labels:
        labels.write(0, np.full((64, 48), 2, dtype=np.uint8))
    write_raster_style(tmp_path / "labels.tif", KNOWN)
    for kind in ("uint8", "float32"):
        with ScoreRasterWriter(tmp_path / f"{kind}.tif", GRID, KNOWN, kind, temp=tmp_path) as scores:
            scores.write(0, np.full((2, 64, 48), 0.5))
        write_score_style(tmp_path / f"{kind}.tif", 2, kind)
    fields = {"class_id": int, "class_name": str}
    entries = [{"class_id": item["id"], "class_name": item["name"]} for item in KNOWN]
    squares = shapely.box([1, 5], [1, 5], [4, 9], [4, 9])
    for name, shapes, geometry in (("a.gpkg", squares, "polygon"), ("b.fgb", squares, "box")):
        write_features(tmp_path / name, shapes, GRID, entries, fields)
        write_vector_style(tmp_path / name, KNOWN, geometry)
    write_features(tmp_path / "c.geojson", shapely.centroid(squares), GRID, entries, fields, "Point")
    write_vector_style(tmp_path / "c.geojson", KNOWN, "point")

    rasters = [tmp_path / f"{name}.tif" for name in ("labels", "uint8", "float32")]
    report = look(*rasters, *(tmp_path / name for name in ("a.gpkg", "b.fgb", "c.geojson")))
    legend = [[item["name"], item["color"]] for item in KNOWN]
    for name in ("labels.tif", "a.gpkg", "b.fgb", "c.geojson"):
        assert report[name] == [True, True, legend], name
    assert report["uint8.tif"] == [True, True, [0, 1, 3]]
    assert report["float32.tif"] == [True, True, [0, 1, -1]]
