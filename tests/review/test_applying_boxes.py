"""Verdicts applied to box files: COCO JSON, Pascal VOC and CSV."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely

from rvbuild.errors import DataError
from rvbuild.review.applying.plan import plan
from rvbuild.review.applying.publish import stage
from tests.review.conftest import CLASSES, NULL
from tests.review.test_applying import DETECTION, Case
from tests.review.test_labels import BOXES

MOVED, NEW = shapely.box(31, 31, 37, 38.5), shapely.box(40, 5, 44, 9)

COCO = """{"info": {"year": 2020, "x": 1.50},
 "images": [{"id": 1, "file_name": "a.tif"}, {"id": 2, "file_name": "b.tif"}],
 "categories": [{"id": 5, "name": "car"}, {"id": 6, "name": "tree"}],
 "annotations": [
  {"id": 70, "image_id": 2, "category_id": 5, "bbox": [0, 0, 2, 2]},
  {"id": 71, "image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9], "iscrowd": 1},
  {"id": 72, "image_id": 1, "category_id": 5, "bbox": [10, 5, 4, 2.50], "mine": [1.0, null]},
  {"id": 73, "image_id": 1, "category_id": 6, "bbox": [20, 5, 4, 2], "area": 8,
   "segmentation": [[20, 5, 24, 5, 20, 7]]},
  {"id": 9, "image_id": 1, "category_id": 6, "bbox": [30, 5, 4, 2]}
 ]}
"""


def case_of(tmp_path, write_raster, name, text, kind, **settings):
    image = write_raster("image.tif", np.zeros((40, 60), dtype=np.uint8))
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Case(tmp_path, image, [path], {"kind": kind, **BOXES, **settings}, DETECTION)


def test_coco(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster, "a.json", COCO, "coco")
    (copy,) = case.apply(
        case.verdict("class", 0, "tree"),
        case.verdict("outline", 1, shape=MOVED),
        case.verdict("spurious", 2),
        case.verdict("missing", None, "car", NEW),
    )
    text = COCO.replace('"image_id": 1, "category_id": 5, "bbox": [10', '"image_id": 1, "category_id": 6, "bbox": [10')
    text = text.replace('"bbox": [20, 5, 4, 2], "area": 8', '"bbox": [31, 31, 6, 7.5], "area": 45')
    text = text.replace("[[20, 5, 24, 5, 20, 7]]", "[[31, 31, 37, 31, 37, 38.5, 31, 38.5]]")
    new = '{"id": 74, "image_id": 1, "category_id": 5, "bbox": [40, 5, 4, 4], "area": 16, '
    new += '"segmentation": [[40, 5, 44, 5, 44, 9, 40, 9]], "iscrowd": 0}'
    text = text.replace('{"id": 9, "image_id": 1, "category_id": 6, "bbox": [30, 5, 4, 2]}', new)
    assert copy.read_text() == text
    assert sorted(case.labels([copy])) == [
        ("car", (40, 5, 44, 9)),
        ("tree", (10, 5, 14, 7.5)),
        ("tree", (31, 31, 37, 38.5)),
    ]
    assert case.files[0].read_text() == COCO


def test_coco_without_the_category(tmp_path, write_raster):
    text = COCO.replace(', {"id": 6, "name": "tree"}', "").replace('"category_id": 6', '"category_id": 5')
    case = case_of(tmp_path, write_raster, "a.json", text, "coco")
    with pytest.raises(DataError, match=r'has no category "tree"; add it to `categories` \(it has car\)'):
        case.apply(case.verdict("class", 0, "tree"))


def test_coco_of_mapped_categories_and_a_part_of_the_image(tmp_path, write_raster):
    mapping = {"class_map": {"car": "tree", "lorry": "car", "tree": "null"}, "origin_px": [8, 3]}
    text = COCO.replace('"name": "tree"', '"name": "lorry"')
    case = case_of(tmp_path, write_raster, "a.json", text, "coco", **mapping)
    assert case.labels()[0] == ("tree", (2, 2, 6, 4.5))
    (copy,) = case.apply(case.verdict("class", 0, "car"), case.verdict("missing", None, "tree", NEW))
    assert json.loads(copy.read_text())["annotations"][-1]["bbox"] == [48, 8, 4, 4]
    assert case.labels([copy])[0] == ("car", (2, 2, 6, 4.5))
    assert case.labels([copy])[-1] == ("tree", (40, 5, 44, 9))


CSV = (
    'xmin,ymin,xmax,ymax,label,image_path,"my, note"\r\n'
    "1,2,3,4.50,tree,a.tif,x\r\n"
    "\r\n"
    '5,6,7,8,"tree",a.tif,"two\r\nlines"\r\n'
    ",,,,,b.tif,\r\n"
    "9,10,11.0,12,car,a.tif,ä"
)


def test_csv(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster, "a.csv", b"\xef\xbb\xbf" + CSV.encode(), "csv")
    (copy,) = case.apply(
        case.verdict("class", 1, "car"), case.verdict("spurious", 0), case.verdict("missing", None, "tree", NEW)
    )
    text = CSV.replace("1,2,3,4.50,tree,a.tif,x\r\n", "").replace('"tree",a.tif', '"car",a.tif')
    assert copy.read_bytes() == b"\xef\xbb\xbf" + (text + "\r\n40,5,44,9,tree,a.tif,\r\n").encode()
    (copy,) = case.apply(case.verdict("outline", 2, shape=MOVED))
    assert copy.read_bytes().endswith("31,31,37,38.5,car,a.tif,ä".encode())


def test_csv_keeps_quotes_of_a_changed_row(tmp_path, write_raster):
    text = 'image_path,who,xmin,ymin,xmax,ymax,label\n"a.tif","me, ""x""",1,2,3,"4.50",tree\n'
    case = case_of(tmp_path, write_raster, "a.csv", text, "csv")
    (copy,) = case.apply(case.verdict("class", 0, "car"))
    assert copy.read_text() == text.replace("tree", "car")


def test_what_is_done_already_is_not_done_again(tmp_path, write_raster):
    """An outline has corners that a box does not have."""
    outline, new = shapely.Point(30, 20).buffer(5), shapely.Point(1, 35).buffer(4)
    case = case_of(tmp_path, write_raster, "a.csv", CSV, "csv")
    verdicts = [case.verdict("outline", 0, shape=outline), case.verdict("missing", None, "tree", new)]
    case.apply(*verdicts, in_place=True)
    made = plan(verdicts, {"a": case.scene}, task=DETECTION, classes=CLASSES, null_id=NULL)
    assert (len(made.already), made.files) == (2, {})


def test_csv_without_labels(tmp_path, write_raster):
    text = "image_path,xmin,ymin,xmax,ymax\na.tif,1,2,3,4\n"
    case = case_of(tmp_path, write_raster, "a.csv", text, "csv", **{"class": "car"})
    (copy,) = case.apply(case.verdict("missing", None, "car", NEW))
    assert copy.read_text() == text + "a.tif,40,5,44,9\n"
    with pytest.raises(DataError, match="all of its labels are of the class"):
        case.apply(case.verdict("class", 0, "tree"))


VOC = """<?xml version="1.0" encoding="ISO-8859-1"?>
<annotation><!-- drawn <object> by me --><filename>a.tif</filename>
  <object><name>tree</name><pose>\xfc</pose>
    <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.50</xmax><ymax>4</ymax></bndbox>
    <part><name>trunk</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></part>
  </object>
  <object><bndbox><ymax>8</ymax><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax></bndbox><name>car</name></object>
  <object><name>car</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>10</xmax><ymax>11</ymax></bndbox></object>
</annotation>
""".encode("latin-1")


def test_voc(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster, "a.xml", VOC, "voc")
    (copy,) = case.apply(
        case.verdict("class", 0, "car"),
        case.verdict("outline", 1, shape=MOVED),
        case.verdict("spurious", 2),
        case.verdict("missing", None, "tree", NEW),
    )
    text = VOC.decode("latin-1").replace("<name>tree</name>", "<name>car</name>")
    text = text.replace(
        "<ymax>8</ymax><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax>",
        "<ymax>38.5</ymax><xmin>31</xmin><ymin>31</ymin><xmax>37</xmax>",
    )
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    third = f"\n  <object><name>car</name>{box.format(9, 9, 10, 11)}</object>"
    new = f"  <object><name>tree</name>{box.format(40, 5, 44, 9)}</object>\n"
    text = text.replace(third, "").replace("</annotation>", f"{new}</annotation>")
    assert copy.read_bytes().decode("latin-1") == text
    assert sorted(case.labels([copy])) == [
        ("car", (1, 2, 3.5, 4)),
        ("car", (31, 31, 37, 38.5)),
        ("tree", (40, 5, 44, 9)),
    ]


def test_voc_keeps_line_endings(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster, "a.xml", VOC.replace(b"\n", b"\r\n"), "voc")
    (copy,) = case.apply(case.verdict("missing", None, "tree", NEW))
    assert copy.read_bytes().endswith(b"</object>\r\n</annotation>\r\n")


@pytest.mark.parametrize("kind", ["coco", "csv"])
def test_two_scenes_of_one_file(tmp_path, write_raster, kind):
    text = {"coco": COCO, "csv": CSV.replace(",,,,,b.tif,", "2,2,4,4,car,b.tif,z")}[kind]
    case = case_of(tmp_path, write_raster, f"a.{kind}", text, kind)
    other = Case(case.folder, case.image, case.files, {**case.settings, "image": "b.tif"}, DETECTION)
    second = replace(other.verdict("spurious", 0), scene="b", id="2" * 16)
    third = replace(other.verdict("missing", None, "tree", MOVED), scene="b", id="3" * 16)
    scenes = {"a": case.scene, "b": replace(other.scene, id="b")}
    triangle = shapely.Polygon([(40, 5), (44, 5), (40, 9)])  # a box is its bounds
    verdicts = [case.verdict("missing", None, "car", triangle), case.verdict("class", 0, "tree"), second, third]
    made = plan(verdicts, scenes, task=DETECTION, classes=CLASSES, null_id=NULL)
    copies = stage(made, tmp_path / "work", CLASSES, NULL)
    labels = case.labels()
    assert case.labels([*copies.values()]) == [("tree", labels[0][1]), *labels[1:], ("car", (40, 5, 44, 9))]
    assert other.labels([*copies.values()]) == [("tree", (31, 31, 37, 38.5))]


def test_in_place(tmp_path, write_raster):
    case = case_of(tmp_path, write_raster, "a.json", COCO, "coco")
    verdicts = [case.verdict("spurious", 0), replace(case.verdict("class", 2, "car"), id="f" * 16)]
    case.apply(*verdicts, in_place=True)
    assert case.labels() == [("tree", (20, 5, 24, 7)), ("car", (30, 5, 34, 7))]
    assert (tmp_path / "backup" / "a.json").read_text() == COCO
