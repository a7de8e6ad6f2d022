"""Styles have the elements that QGIS reads: those of files that QGIS 3 wrote itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from rvbuild.geo.write.qgis import write_outline_style, write_raster_style, write_score_style, write_vector_style

CLASSES = [
    {"id": 0, "name": 'car "<fast>" & more', "color": "#ffff00"},
    {"id": 1, "name": "bâtiment", "color": "#0000ff"},
]


def parse(path: Path, name: str) -> ElementTree.Element:
    assert path.name == name
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis version=\"3.")
    root = ElementTree.fromstring(text)
    assert root.tag == "qgis"
    return root


def test_a_raster_is_paletted(tmp_path: Path) -> None:
    root = parse(write_raster_style(tmp_path / "labels.tif", CLASSES), "labels.qml")
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("band"), renderer.get("alphaBand")) == ("paletted", "1", "-1")
    entries = [entry.attrib for entry in renderer.findall("colorPalette/paletteEntry")]
    assert entries == [
        {"value": "0", "color": "#ffff00", "label": 'car "<fast>" & more', "alpha": "255"},
        {"value": "1", "color": "#0000ff", "label": "bâtiment", "alpha": "255"},
    ]


def test_a_class_that_is_never_predicted_is_not_in_the_legend(tmp_path: Path) -> None:
    root = parse(write_raster_style(tmp_path / "labels.tif", CLASSES[1:]), "labels.qml")
    assert [entry.get("value") for entry in root.findall("pipe/rasterrenderer/colorPalette/paletteEntry")] == ["1"]


def test_scores_are_grey_from_0_to_1(tmp_path: Path) -> None:
    for kind, alpha in (("uint8", "4"), ("float32", "-1")):
        root = parse(write_score_style(tmp_path / "scores.tif", 3, kind), "scores.qml")
        renderer = root.find("pipe/rasterrenderer")
        assert renderer is not None
        assert (renderer.get("type"), renderer.get("grayBand")) == ("singlebandgray", "1")
        assert renderer.get("alphaBand") == alpha
        assert [element.text for element in renderer.findall("contrastEnhancement/*")][:2] == ["0", "1"]


def test_a_vector_is_categorized_by_class(tmp_path: Path) -> None:
    fills = [("polygon", "fill", "SimpleFill"), ("box", "fill", "SimpleFill")]
    for geometry, kind, layer in (*fills, ("point", "marker", "SimpleMarker")):
        root = parse(write_vector_style(tmp_path / "a.b.geojson", CLASSES, geometry), "a.b.qml")
        renderer = root.find("renderer-v2")
        assert renderer is not None
        assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class_name")
        categories = renderer.findall("categories/category")
        symbols = {symbol.get("name"): symbol for symbol in renderer.findall("symbols/symbol")}
        assert [category.get("value") for category in categories] == [item["name"] for item in CLASSES]
        for category, color in zip(categories, ("255,255,0", "0,0,255"), strict=True):
            symbol = symbols[category.get("symbol")]
            assert symbol.get("type") == kind
            (drawn,) = symbol.findall("layer")
            assert drawn.get("class") == layer
            options = {option.get("name"): option.get("value") for option in drawn.findall("Option/Option")}
            assert options["color"].rpartition(",")[0] == color
            assert options.get("style") == {"polygon": "solid", "box": "no"}.get(geometry)


def test_windows_are_outlines_in_one_colour(tmp_path: Path) -> None:
    root = parse(write_outline_style(tmp_path / "windows.gpkg", "#ff9d00"), "windows.qml")
    renderer = root.find("renderer-v2")
    assert renderer is not None
    assert renderer.get("type") == "singleSymbol"
    options = {option.get("name"): option.get("value") for option in renderer.iter("Option")}
    assert (options["style"], options["outline_color"]) == ("no", "255,157,0,255")
