from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvbuild.errors import DataError
from rvbuild.geo.vector.box_files import digest, read_box_file

VOC = """<annotation><filename>a.png</filename>
<object><name>Tree</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11.5</xmax><ymax>12</ymax></bndbox></object>
<object><name>Car</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object>
</annotation>
"""
CSV = "image_path,xmin,ymin,xmax,ymax,label\na.tif,1,2,11.5,12,Tree\nb.tif,0,0,9,9,Tree\na.tif,3,4,5,6,Car\n"
COCO = {
    "images": [{"id": 7, "file_name": "sub/a.tif"}, {"id": 8, "file_name": "b.tif"}],
    "categories": [{"id": 1, "name": "Tree"}, {"id": 2, "name": "Car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10.5, 10]},
        {"id": 2, "image_id": 8, "category_id": 1, "bbox": [0, 0, 9, 9]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [3, 4, 2, 2]},
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": [0, 0, 50, 50], "iscrowd": 1},
    ],
}
BOXES = [[1, 2, 11.5, 12], [3, 4, 5, 6]]


def settings(kind: str, **changed: Any) -> dict[str, Any]:
    return {"kind": kind, "image": None, "scene_image": "a.tif", "labels": True, **changed}


def written(folder: Path, kind: str, text: str | None = None) -> Path:
    path = folder / f"boxes.{kind}"
    path.write_text(text if text is not None else {"voc": VOC, "csv": CSV, "coco": json.dumps(COCO)}[kind])
    return path


def big(number: str) -> str:
    """Return a COCO file with this number in a box."""
    return (
        '{"images": [{"id": 1, "file_name": "a.tif"}], "annotations": [{"image_id": 1, "category_id": 1, '
        f'"bbox": [1, 2, 3, {number}]}}]}}'
    )


@pytest.mark.parametrize("kind", ["voc", "csv", "coco"])
def test_the_boxes_of_one_image_are_read(tmp_path: Path, kind: str) -> None:
    boxes = read_box_file(written(tmp_path, kind), settings(kind))
    assert boxes.boxes.tolist() == BOXES
    assert boxes.labels == ["Tree", "Car"]


@pytest.mark.parametrize("kind", ["csv", "coco"])
def test_another_image_and_one_that_is_not_there(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind)
    assert read_box_file(path, settings(kind, image="b.tif")).boxes.tolist() == [[0, 0, 9, 9]]
    for which in ({"image": "b.tiff"}, {"scene_image": "b.tiff"}):
        with pytest.raises(DataError, match=r'has no image "b.tiff"; did you mean "b.tif"\?'):
            read_box_file(path, settings(kind, **which))


def test_a_file_of_one_image_is_about_the_scene_whatever_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, "csv", "image_path,xmin,ymin,xmax,ymax,label\nelse.tif,1,2,3,4,Tree\n")
    assert read_box_file(path, settings("csv")).boxes.tolist() == [[1, 2, 3, 4]]
    with pytest.raises(DataError, match="has no image"):
        read_box_file(path, settings("csv", image="a.tif"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", ""),
        ("csv", "image_path,xmin,ymin,xmax,ymax,label\n"),
        ("csv", "image_path,xmin,ymin,xmax,ymax,label\na.tif,0,0,0,0,Tree\na.tif,,,,,\n"),
        ("voc", "<annotation/>"),
        ("coco", '{"images": [], "annotations": []}'),
        ("coco", '{"images": [{"id": 1, "file_name": "a.tif"}]}'),
    ],
)
def test_a_file_without_boxes_is_fine(tmp_path: Path, kind: str, text: str) -> None:
    assert read_box_file(written(tmp_path, kind, text), settings(kind)).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("csv", "image,xmin,ymin,xmax,label\n", "ymax is missing"),
        ("csv", "image_path,xmin,ymin,xmax,ymax\na,1,2,x,4\n", r"row 0 \(from 0\): expected numbers"),
        ("csv", "image_path,xmin,ymin,xmax,ymax\na,5,2,3,4\n", "expected finite xmin <= xmax"),
        ("csv", "image_path,xmin,ymin,xmax,ymax\na,nan,2,3,4\n", "expected finite xmin <= xmax"),
        ("voc", "<annotation><object/></annotation>", "Pascal VOC"),
        ("voc", "<kml/>", "Pascal VOC"),
        ("voc", "{}", "Pascal VOC"),
        ("coco", "[]", "COCO"),
        ("coco", "<xml/>", "COCO"),
        (
            "coco",
            '{"images": [], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}',
            "id 1, which",
        ),
        ("coco", '{"images": [], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}]}', "COCO"),
        ("coco", '{"images": [' + "[" * 100_000, r"cannot be read as COCO JSON \(it is nested too deeply\)"),
        ("coco", big("1" * 400), r"cannot be read as COCO JSON \(OverflowError: int too large"),
        ("coco", big("1" * 5000), r"cannot be read as COCO JSON \(it holds a number with too many digits\)"),
        ("coco", big("1e999"), "expected finite"),
        ("coco", '{"images": [{"id": [1], "file_name": 2}]}', "COCO JSON"),
        (
            "voc",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>",
            r"Pascal VOC XML \(it has a document type",
        ),
        (
            "voc",
            "<?xml version='1.0' encoding='x-y'?><annotation/>",
            r"\(its encoding is not known: unknown .* x-y",
        ),
        ("voc", "<annotation>" + "<a>" * 100_000, r"\(its elements are nested more than 100 deep"),
        ("csv", CSV + "x" * 200_000 + ",1,2,3,4,a\n", "as a CSV of boxes: field larger than field limit"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path: Path, kind: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_box_file(written(tmp_path, kind, text), settings(kind))


def test_cosmetic_edits_do_not_change_the_digest(tmp_path: Path) -> None:
    args = settings("csv")
    path = written(tmp_path, "csv")
    before = digest([path], args)
    # Another order of columns, another image's boxes, another spelling of a number.
    path.write_text("label,image_path,xmin,ymin,xmax,ymax,note\nTree,a.tif,1.0,2,11.50,12,x\nCar,a.tif,3,4,5,6,y\n")
    assert digest([path], args) == before
    path.write_text(CSV.replace("a.tif,3", "a.tif,2"))
    assert digest([path], args) != before
    path.write_text(CSV.replace("Car", "Tree"))
    assert digest([path], args) != before
    assert digest([path], {**args, "labels": False}) == digest([written(tmp_path, "csv")], {**args, "labels": False})


def test_coco_and_voc_are_digested_by_what_they_say(tmp_path: Path) -> None:
    coco, args = written(tmp_path, "coco"), settings("coco")
    before = digest([coco], args)
    coco.write_text(json.dumps({**COCO, "info": {"year": 1}}, indent=3))
    assert digest([coco], args) == before
    voc = written(tmp_path, "voc")
    before = digest([voc], settings("voc"))
    voc.write_text(VOC.replace("\n", " ").replace("<name>", "<pose>Left</pose><name>"))
    assert digest([voc], settings("voc")) == before


def test_images_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a/i.tif"}, {"id": 2, "file_name": "b/i.tif"}]
    entries = [{"image_id": n, "category_id": 1, "bbox": [n, n, 1, 1]} for n in (1, 2)]
    content = {"images": images, "categories": [{"id": 1, "name": "Tree"}], "annotations": entries}
    coco = written(tmp_path, "coco", json.dumps(content))
    rows = "a/i.tif,1,1,2,2,Tree\nb/i.tif,2,2,3,3,Tree\n"
    csv = written(tmp_path, "csv", f"image_path,xmin,ymin,xmax,ymax,label\n{rows}")
    for path, kind in ((coco, "coco"), (csv, "csv")):
        for at, folder in enumerate("ab", start=1):
            for changes in ({"scene_image": f"data/{folder}/i.tif"}, {"image": f"{folder}/i.tif", "scene_image": None}):
                boxes = read_box_file(path, settings(kind, **changes))
                assert boxes.boxes.tolist() == [[at, at, at + 1, at + 1]]
                assert boxes.image is not None and boxes.image.name == f"{folder}/i.tif"
        with pytest.raises(DataError, match=r'2 of its images could be "data/i\.tif"'):
            read_box_file(path, settings(kind, scene_image="data/i.tif"))


def test_categories_have_one_name_each(tmp_path: Path) -> None:
    content = {**COCO, "categories": [*COCO["categories"], {"id": 1, "name": "Bush"}]}
    with pytest.raises(DataError, match="the category 1 has two names, 'Tree' and 'Bush'"):
        read_box_file(written(tmp_path, "coco", json.dumps(content)), settings("coco"))


def test_the_id_of_a_category_without_a_name_is_digested(tmp_path: Path) -> None:
    content = {**COCO, "categories": []}
    first = digest([written(tmp_path, "coco", json.dumps(content))], settings("coco"))
    entries = [{**entry, "category_id": 2} for entry in COCO["annotations"]]
    assert (
        digest([written(tmp_path, "coco", json.dumps({**content, "annotations": entries}))], settings("coco")) != first
    )
