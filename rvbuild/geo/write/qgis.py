"""QGIS styles: `NAME.qml` beside a raster or a vector file, which QGIS applies when it opens that file.

Only the symbology is set; everything else has QGIS's defaults. The elements are those that QGIS 3 writes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from rvbuild.geo.classes import Classes, rgb

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_VERSION = "3.22.0"
_FILL_ALPHA = 96
"""Of 255: the imagery below stays visible."""

Geometry = Literal["polygon", "box", "point"]
"""Boxes are not filled: they overlap."""


def style_path(file: Path) -> Path:
    """Return the path of the style of a file, where QGIS looks for it."""
    return file.with_suffix(".qml")


def write_raster_style(file: Path, classes: Classes) -> Path:
    """Write the style of a raster of class ids: colours and names of the classes that are given; return its path."""
    root = _root()
    pipe = SubElement(root, "pipe")
    renderer = SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    SubElement(renderer, "rasterTransparency")
    entries = SubElement(renderer, "colorPalette")
    for item in classes:
        SubElement(
            entries,
            "paletteEntry",
            value=str(item["id"]),
            color=str(item["color"]),
            label=str(item["name"]),
            alpha="255",
        )
    SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0")
    # Classes are never blended into one another.
    SubElement(pipe, "rasterresampler", maxOversampling="1")
    SubElement(root, "blendMode").text = "0"
    return _write(root, file)


def write_score_style(file: Path, count: int, kind: Literal["float32", "uint8"]) -> Path:
    """Write the style of a raster of `count` scores: the first in greys from 0 to 1; return its path.

    By default QGIS would show the scores of three classes as red, green and blue.
    """
    root = _root()
    pipe = SubElement(root, "pipe")
    renderer = SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandgray",
        grayBand="1",
        gradient="BlackToWhite",
        opacity="1",
        # The mask of the file is an additional band.
        alphaBand=str(count + 1) if kind == "uint8" else "-1",
        nodataColor="",
    )
    SubElement(SubElement(renderer, "minMaxOrigin"), "limits").text = "None"
    # QGIS applies the scale of the file: bytes are also 0 to 1.
    stretch = SubElement(renderer, "contrastEnhancement")
    for key, value in {"minValue": "0", "maxValue": "1", "algorithm": "StretchToMinimumMaximum"}.items():
        SubElement(stretch, key).text = value
    SubElement(root, "blendMode").text = "0"
    return _write(root, file)


def write_vector_style(file: Path, classes: Classes, geometry: Geometry = "polygon") -> Path:
    """Write the style of features with a `class_name`: the colours of the classes that are given; return its path."""
    root = _root()
    renderer = SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol",
        attr="class_name",
        symbollevels="0",
        enableorderby="0",
        forceraster="0",
    )
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for index, item in enumerate(classes):
        name = str(item["name"])
        SubElement(categories, "category", value=name, label=name, symbol=str(index), render="true", type="string")
        symbols.append(symbol(str(index), rgb(str(item["color"])), geometry))
    SubElement(root, "blendMode").text = "0"
    return _write(root, file)


def write_outline_style(file: Path, color: str) -> Path:
    """Write the style of polygons of which only the outline is seen, in a colour `#rrggbb`; return its path."""
    root = _root()
    renderer = SubElement(
        root, "renderer-v2", type="singleSymbol", symbollevels="0", enableorderby="0", forceraster="0"
    )
    SubElement(renderer, "symbols").append(symbol("0", rgb(color), "box"))
    SubElement(root, "blendMode").text = "0"
    return _write(root, file)


def symbol(name: str, color: Sequence[int], geometry: Geometry) -> Element:
    """Return a symbol in a colour, red, green and blue."""
    opaque, faint = (",".join(map(str, (*color, alpha))) for alpha in (255, _FILL_ALPHA))
    made = Element(
        "symbol",
        type="marker" if geometry == "point" else "fill",
        name=name,
        alpha="1",
        force_rhr="0",
        clip_to_extent="1",
    )
    if geometry != "point":
        layer, options = "SimpleFill", {"color": faint, "outline_color": opaque, "outline_width": "0.4"}
        options["style"] = "solid" if geometry == "polygon" else "no"
    else:
        layer, options = "SimpleMarker", {"name": "circle", "color": opaque, "outline_color": "35,35,35,255"}
        options |= {"outline_width": "0.2", "size": "2", "size_unit": "MM"}
    options |= {"outline_style": "solid", "outline_width_unit": "MM"}
    table = SubElement(
        SubElement(made, "layer", {"class": layer, "enabled": "1", "locked": "0", "pass": "0"}), "Option", type="Map"
    )
    for key, value in options.items():
        SubElement(table, "Option", name=key, value=value, type="QString")
    return made


def _root() -> Element:
    return Element("qgis", version=_VERSION, styleCategories="Symbology")


def _write(root: Element, file: Path) -> Path:
    ElementTree.indent(root, " ")
    path = style_path(file)
    path.write_text(_HEAD + ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return path
