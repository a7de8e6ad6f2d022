"""The files of a review: pictures, the page, and the project of QGIS."""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
from PIL import Image

from rvbuild.errors import DataError
from rvbuild.review.outputs import ReviewedScene, write_review
from rvbuild.review.shapes import rings_of
from rvbuild.review.suspect import Source
from rvbuild.review.table import TABLE
from rvbuild.review.verdicts import set_verdict
from tests.review.conftest import CLASSES, NULL, VECTOR
from tests.review.test_suspect import suspect
from tests.review.test_table import column, ids

PYTHON = "/usr/bin/python3"

NASTY = '<script>alert("x")</script> & "y"'


@pytest.fixture
def scene(tmp_path, write_raster, write_vector):
    rng = np.random.default_rng(1)
    (tmp_path / "data").mkdir()
    image = write_raster("data/a b.tif", rng.integers(0, 60, (3, 40, 60), dtype=np.uint8))
    features = [(shapely.box(3, 4, 9, 12), {"kind": "tree"}), (shapely.box(20, 4, 29, 12), {"kind": "car"})]
    labels = write_vector("data/labels.gpkg", features, layer="things")
    predicted = write_raster("data/map.tif", np.zeros((40, 60), dtype=np.uint8))
    settings = {"image": {"nodata": None}, "channels": None}
    return ReviewedScene("a", [image], settings, [labels], ["data/labels.gpkg"], VECTOR, predicted)


def suspects():
    shape, other = rings_of(shapely.box(3, 4, 9, 12)), rings_of(shapely.box(20, 4, 29, 12))
    return [
        suspect("class", 1, label_class="tree", proposed_class="car", polygon=shape, source=Source(0, 0)),
        suspect("spurious", 2, label_class="car", polygon=other, source=Source(0, 1), score=0.9, reason=NASTY),
        suspect("missing", 3, proposed_class="car", polygon=other, proposed_polygon=other, score=0.5),
        suspect("outline", 4, label_class="car", proposed_polygon=shape, polygon=other, source=Source(0, 1), score=0.4),
        suspect("duplicate", 5, label_class="car", polygon=other, source=Source(0, 1), score=0.3),
    ]


def review(tmp_path, scene, found=None):
    folder = tmp_path / "cache" / "p" / "review"
    every = suspects() if found is None else found
    scenes = {"a": scene}
    write_review(folder, every, scenes, name="p & <q>", task="semantic_segmentation", classes=CLASSES, null_id=NULL)
    return folder


def test_the_files_of_a_review(tmp_path, scene):
    folder = review(tmp_path, scene)
    names = ["review.html", "review.qgz", "suspects.geojson", "suspects.gpkg", "thumbnails"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert column(folder / TABLE, "id") == ids(2, 1, 3, 4, 5)
    assert column(folder / TABLE, "file") == ["data/labels.gpkg"] * 2 + [None] + ["data/labels.gpkg"] * 2
    assert column(folder / TABLE, "layer") == ["things"] * 2 + [None] + ["things"] * 2
    assert column(folder / TABLE, "feature_id") == ["2", "1", None, "2", "2"]
    digests = column(folder / TABLE, "label_digest")
    assert digests[2] is None
    assert digests[0] == digests[3] == digests[4] != digests[1]
    assert sorted(path.stem for path in (folder / "thumbnails").iterdir()) == ids(1, 2, 3, 4, 5)
    for path in (folder / "thumbnails").iterdir():
        with Image.open(path) as picture:
            assert picture.size == (3 * 256 + 2 * 6, 256)


def test_a_review_has_the_same_bytes_each_time(tmp_path, scene):
    folder = review(tmp_path, scene)
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != TABLE}
    assert len(first) == 8
    review(tmp_path, scene)
    assert {path: path.read_bytes() for path in first} == first


def test_the_page_is_escaped_and_needs_nothing(tmp_path, scene):
    folder = review(tmp_path, scene)
    set_verdict(folder / TABLE, ids(2)[0], "accept", "<b>gone</b>")
    review(tmp_path, scene)
    page = (folder / "review.html").read_text()
    assert NASTY not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;gone&lt;/b&gt;" in page
    assert "accepted: the label is wrong" in page
    assert "p &amp; &lt;q&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 5
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "4 open, 1 accepted, 0 rejected" in page
    assert (
        page.index("probably wrong: 90 %") < page.index("probably wrong: 75 %") < page.index("probably missing: 50 %")
    )


@pytest.mark.parametrize("name", ["review", "review/suspects.gpkg", "review/review.html", "review/thumbnails"])
def test_nothing_is_written_through_links(tmp_path, scene, name):
    path, elsewhere = tmp_path / "cache" / "p" / name, tmp_path / "elsewhere"
    path.parent.mkdir(parents=True)
    if path.suffix:
        elsewhere.write_text("mine")
    else:
        elsewhere.mkdir()
    path.symlink_to(elsewhere)
    with pytest.raises(DataError, match="is a link, through which nothing is written"):
        review(tmp_path, scene)
    assert elsewhere.read_text() == "mine" if path.suffix else not list(elsewhere.iterdir())


def test_labels_that_change_during_a_review_are_noticed(tmp_path, scene):
    other = suspect("spurious", 1, label_class="car", polygon=rings_of(shapely.box(3, 4, 9, 12)), source=Source(0, 0))
    moved = suspect(
        "spurious", 1, label_class="tree", polygon=rings_of(shapely.box(30, 4, 39, 12)), source=Source(0, 0)
    )
    gone = suspect("spurious", 1, label_class="tree", polygon=rings_of(shapely.box(3, 4, 9, 12)), source=Source(0, 9))
    for each in (other, moved, gone):
        with pytest.raises(DataError, match="have changed while they were reviewed"):
            review(tmp_path, scene, [each])


def test_a_page_without_suspects(tmp_path, scene):
    folder = review(tmp_path, scene, [])
    assert "No label is suspected." in (folder / "review.html").read_text()
    assert list((folder / "thumbnails").iterdir()) == []


def test_the_label_and_the_proposal_are_drawn(tmp_path, scene):
    folder = review(tmp_path, scene)
    with Image.open(folder / "thumbnails" / f"{ids(4)[0]}.jpg") as file:
        picture = np.asarray(file).astype(int)
    panels = picture[:, :256], picture[:, 262:518], picture[:, 524:]
    yellow, blue = [
        [int((np.abs(panel - color).sum(axis=2) < 120).sum()) for panel in panels]
        for color in ((255, 214, 0), (0, 229, 255))
    ]
    assert yellow[0] < 100 < yellow[1]
    assert blue[0] < 100 < min(blue[1:])


def qgs(folder):
    with zipfile.ZipFile(folder / "review.qgz") as archive:
        assert archive.namelist() == ["review.qgs"]
        return ElementTree.fromstring(archive.read("review.qgs"))


def test_the_project_names_files_by_relative_paths(tmp_path, scene):
    folder = review(tmp_path, scene)
    root = qgs(folder)
    layers = {layer.findtext("layername"): layer.findtext("datasource") for layer in root.iterfind(".//maplayer")}
    assert layers == {
        "suspects": "./suspects.gpkg|layername=suspects",
        "proposed outlines": "./suspects.gpkg|layername=proposals",
        "a: a b.tif": "../../../data/a b.tif",
        "a: labels.gpkg": "../../../data/labels.gpkg|layername=things",
    }
    assert root.findtext("properties/Paths/Absolute") == "false"
    for source in layers.values():
        assert (folder / source.partition("|")[0]).is_file()
    tree = [node.get("id") for node in root.iterfind(".//layer-tree-layer")]
    assert tree == [layer.findtext("id") for layer in root.iterfind(".//maplayer")]
    choices = root.findall(".//field[@name='verdict']//Option[@name='map']/Option/Option")
    assert {choice.get("value") for choice in choices} == {"", "accept", "reject"}


LOOK = """
import json, os, sys
from qgis.core import QgsApplication, QgsProject, QgsFeatureRequest
app = QgsApplication([], False)
app.initQgis()
project = QgsProject.instance()
assert project.read(sys.argv[1])
found = {}
for layer in project.mapLayers().values():
    found[layer.name()] = [layer.isValid(), layer.crs().authid(), layer.type() == 0 and layer.featureCount()]
suspects = project.mapLayersByName("suspects")[0]
fields = suspects.fields()
setup = suspects.editorWidgetSetup(fields.indexOf("verdict"))
values = [list(entry.items())[0] for entry in setup.config()["map"]]
hidden = suspects.editorWidgetSetup(fields.indexOf("label_digest")).type()
only = [suspects.editFormConfig().readOnly(fields.indexOf(name)) for name in ("score", "verdict")]
legend = [[item.label(), item.symbol().color().name()] for item in suspects.renderer().legendSymbolItems()]
suspects.startEditing()
feature = next(suspects.getFeatures(QgsFeatureRequest().setFilterExpression("kind = 'class'")))
suspects.changeAttributeValue(feature.id(), fields.indexOf("verdict"), "accept")
saved = suspects.commitChanges()
order = [node.name() for node in project.layerTreeRoot().findLayers()]
config = suspects.attributeTableConfig()
print(json.dumps({"layers": found, "widget": setup.type(), "values": values, "hidden": hidden, "only": only,
    "legend": legend, "saved": saved, "order": order, "sort": config.sortExpression(),
    "errors": suspects.commitErrors(), "crs": project.crs().authid(), "title": project.title()}), flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"there is no {PYTHON}")
def test_qgis_opens_the_project_and_saves_a_verdict(tmp_path, scene):
    folder = review(tmp_path, scene)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    command = [PYTHON, "-c", LOOK, str(folder / "review.qgz")]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path, check=False
    )
    if "No module named 'qgis'" in run.stderr:
        pytest.skip("the system's Python has no QGIS (Debian: python3-qgis)")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["layers"] == {
        "suspects": [True, "EPSG:32633", 5],
        "proposed outlines": [True, "EPSG:32633", 2],
        "a: a b.tif": [True, "EPSG:32633", False],
        "a: labels.gpkg": [True, "EPSG:32633", 2],
    }
    assert report["order"] == ["suspects", "proposed outlines", "a: labels.gpkg", "a: a b.tif"]
    assert (report["widget"], report["hidden"], report["only"]) == ("ValueMap", "Hidden", [True, False])
    assert sorted(value for _, value in report["values"]) == ["", "accept", "reject"]
    assert [label for label, _ in report["legend"]] == [
        *("wrong class", "no object there", "missing label", "wrong outline", "duplicate", "decided"),
    ]
    assert len({color for _, color in report["legend"]}) == 6
    assert (report["crs"], report["title"], report["sort"]) == ("EPSG:32633", "Review of p & <q>", '"score"')
    assert report["saved"], report["errors"]
    assert (
        dict(zip(column(folder / TABLE, "kind"), column(folder / TABLE, "verdict"), strict=True))["class"] == "accept"
    )
    # And a later review keeps what QGIS has written.
    review(tmp_path, scene)
    assert (
        dict(zip(column(folder / TABLE, "kind"), column(folder / TABLE, "verdict"), strict=True))["class"] == "accept"
    )
