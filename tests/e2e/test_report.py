"""The report: one page that a browser needs nothing else for."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from .conftest import BOXES, write_image


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
    assert len(page.sources) == 1 + 3  # the scene, and the contact sheets of three
    assert all(source.startswith("data:image/") for source in page.sources)
    evaluation = (built.root / "cache/p/eval/eval.md").read_text()
    (iou,) = re.findall(r"Mean IoU ([0-9.]+)", evaluation)
    assert f"Mean IoU {iou}" in page.text
    assert (built.root / "cache/p/eval/confusion.svg").read_text() in text
    for word in ("building", "ground", "model unet", "2 epochs"):
        assert word in page.text


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
