"""The report: one page that a browser needs nothing else for."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from .conftest import BOXES, Space, write_image


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_figures_pictures_and_no_link(built):
    text = (built.root / "cache/p/report/index.html").read_text()
    page = _Page(text)
    assert len(page.sources) == 1 + 1 + 3  # a place, the scene, and the contact sheets of three
    assert all(source.startswith("data:image/") for source in page.sources)
    evaluation = (built.root / "cache/p/eval/eval.md").read_text()
    (iou,) = re.findall(r"Mean IoU ([0-9.]+)", evaluation)
    assert f"Mean IoU {iou}" in page.text
    assert (built.root / "cache/p/eval/confusion.svg").read_text() in text
    for word in ("building", "ground", "model unet", "2 epochs", "mean IoU of the validation scene"):
        assert word in page.text
    headings = re.findall(r"<h[123][^>]*>(.*?)</h[123]>", text)
    assert headings[0] == "Semantic segmentation: building, ground" and len(headings) == len(set(headings))
    questions = ["How good is it?", "Where is it wrong?", "What next?"]
    assert [heading for heading in headings if heading.endswith("?")] == questions


def test_the_worst_place_is_shown(built):
    (place,) = json.loads((built.root / "cache/p/eval/places/c.json").read_text())["places"]
    assert place["window"] == [0, 0, 64, 64]
    evaluation = json.loads((built.root / "cache/p/eval/eval.json").read_text())
    matrix = np.array(evaluation["overall"][-1]["conf_mat"])
    assert place["severity"] == matrix.sum() - np.trace(matrix) > 0
    picture = np.asarray(Image.open(built.root / "cache/p/report/places/c/place_00.jpg")).astype(int)
    assert picture.shape == (64, 4 * 64 + 3 * 6, 3)
    image, labels, predictions, errors = (picture[:, 70 * n : 70 * n + 64] for n in range(4))
    for other in (labels, predictions, errors):
        assert np.abs(other - image).mean() > 1
    assert np.abs(labels - predictions).mean() > 1


def test_the_picture_shows_the_image_and_the_predicted_classes(built):
    picture = np.asarray(Image.open(built.root / "cache/p/report/c.jpg")).astype(int)
    assert picture.shape == (64, 64 + 6 + 64, 3)
    plain, predicted = picture[:, :64], picture[:, 70:]
    assert np.abs(plain - predicted).mean() > 10  # red or green lies over every pixel


def test_names_of_classes_cannot_break_the_page(built):
    built.edit('building = "#ff0000"', '"a & b" = "#ff0000"')
    built.project.write_text(built.project.read_text().replace('class = "building"', 'class = "a & b"'))
    assert built.rvbuild("report", "-q").status == 0
    text = (built.root / "cache/p/report/index.html").read_text()
    assert "a &amp; b" in text
    assert "a & b" not in text


def test_an_edit_reaches_the_page(built):
    write_image(built.root / "data/c.tif", BOXES["c"], seed=9)
    result = built.rvbuild("report", "--json")
    assert {"chip:c", "infer:c", "report:c", "report"} <= result.did("built")


def test_any_valid_name_reaches_all_that_is_written(space: Space) -> None:
    """Marks of Markdown, HTML and URLs, quotes, colons, letters that turn the direction, and what is no letter."""
    ground, building = "a:b 'c' [d] é;", "![x](y)"
    scenes = {"a": "a [x] 'y'", "b": "b_#1%2:🌲", "c": "c & \u200fשלום;"}
    text = space.project.read_text()
    for old, new in (("building", building), ("ground", ground)):
        text = text.replace(f"\n{old} =", f'\n"{new}" =')
    text = text.replace('"building"', f'"{building}"').replace('"ground"', f'"{ground}"')
    for old, new in scenes.items():
        text = text.replace(f'"{old}"', f'"{new}"')
        for suffix in (".tif", ".geojson"):
            (space.root / f"data/{old}{suffix}").rename(space.root / f"data/{new}{suffix}")
    space.project.write_text(text.replace("epochs = 2", "epochs = 1") + f'vectors = [{{ class = "{building}" }}]\n')
    result = space.rvbuild("build")
    assert result.status == 0, result.out + result.err
    page = _Page((space.root / "cache/p/report/index.html").read_text())
    for name in (ground, building, *scenes.values()):
        assert name in page.text, name
    assert all(source.startswith("data:image/") for source in page.sources)
    for path in (space.root / "cache/p").rglob("*"):
        if path.suffix in (".svg", ".qml"):
            ElementTree.parse(path)
    assert space.rvbuild("check").status == 0
    assert space.rvbuild("data").status == 0
    assert scenes["b"] in _Page((space.root / "cache/p/data/index.html").read_text()).text
    assert space.rvbuild("status", "--json").json["summary"]["fresh"]
    (bundle,) = (space.root / "cache/p/bundle").glob("*.zip")
    image = f"data/{scenes['c']}.tif"
    result = space.rvbuild("predict", str(bundle), image, "-o", "out", "--inline")
    assert result.status == 0, result.out + result.err
