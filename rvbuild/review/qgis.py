"""`review.qgz`: a project of QGIS with images, labels and suspects, and a form to give verdicts.

Made without QGIS: the elements are those that QGIS 3 writes itself, as far as they are needed. Paths are relative to
the project, so that a workspace may be moved.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from rasterio.crs import CRS

from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped
from rvbuild.geo.classes import Classes, names, rgb
from rvbuild.geo.write.qgis import symbol
from rvbuild.review.suspect import KINDS
from rvbuild.review.table import FIELDS, PROPOSALS, TABLE
from rvbuild.review.verdicts import LAYER
from rvbuild.review.words import COLORS, NAMES

PROJECT = "review.qgz"

_VERSION = "3.22.0"
_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"

_LABEL_COLOR, _PROPOSED_COLOR, _DECIDED_COLOR = (255, 214, 0), (0, 229, 255), (150, 150, 150)
_DECIDED = "decided"

_HIDDEN = ("fid", "label_digest", "proposed_px", "label_px")
_EDITABLE = ("proposed_class", "verdict", "note")

_TITLES = {"class": "class of the label", "gain": "expected gain", "score": "probability that the label is wrong"}

_CHOICES = {"": "open", "accept": "accept: the label is wrong", "reject": "reject: the label is right"}


@dataclass(frozen=True)
class ProjectLayer:
    """A file of a scene as a layer of the project."""

    name: str
    path: Path
    kind: Literal["image", "label raster", "label vector"]
    crs: CRS | None = None
    layer: str | None = None
    """Of a vector file."""


def write_project(
    path: Path,
    title: str,
    layers: Sequence[ProjectLayer],
    classes: Classes,
    crs: CRS | None,
    extent: tuple[float, float, float, float] | None,
) -> None:
    """Write a project beside `suspects.gpkg`, with the same bytes each time.

    Parameters
    ----------
    path
        The file to write, `review.qgz`.
    title
        Of the project.
    layers
        Images and labels, the uppermost first.
    classes
        All classes; the form offers them.
    crs
        Of the project and of the table of suspects; None if there is none.
    extent
        What is shown at first: min x, min y, max x, max y in that CRS.
    """
    root = Element("qgis", projectname=title, version=_VERSION)
    SubElement(root, "title").text = title
    if crs is not None:
        root.append(_crs("projectCrs", crs))
    tree, maps = Element("layer-tree-group"), Element("projectlayers")
    review = _group(tree, "review")
    for element in (_suspects(classes, crs), _proposals(crs)):
        _add(element, review, maps)
    labels, images = _group(tree, "labels"), _group(tree, "images")
    for number, layer in enumerate(layers):
        element = _layer(f"scene_{number}", layer, path.parent)
        _add(element, images if layer.kind == "image" else labels, maps)
    root.extend([tree, maps])
    root.append(_canvas(crs, extent))
    properties = SubElement(root, "properties")
    SubElement(SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    projected = "0" if crs is None else "1"
    SubElement(SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", type="int").text = projected
    ElementTree.indent(root, " ")
    text = _HEAD + ElementTree.tostring(root, encoding="unicode") + "\n"
    entry = zipfile.ZipInfo(f"{path.stem}.qgs", date_time=(1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, text.encode())


def _suspects(classes: Classes, crs: CRS | None) -> Element:
    """Return the layer of suspects: coloured by kind, grey when decided, with a form for verdicts."""
    element = _vector(LAYER, LAYER, f"./{TABLE}|layername={LAYER}", crs)
    renderer = SubElement(
        element,
        "renderer-v2",
        type="categorizedSymbol",
        attr=f"""if(coalesce("verdict", '') = '', "kind", '{_DECIDED}')""",
        symbollevels="0",
        enableorderby="0",
        forceraster="0",
    )
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    entries = [(kind, NAMES[kind], rgb(COLORS[kind])) for kind in KINDS]
    for number, (value, label, color) in enumerate([*entries, (_DECIDED, "decided", _DECIDED_COLOR)]):
        SubElement(categories, "category", value=value, label=label, symbol=str(number), render="true", type="string")
        symbols.append(symbol(str(number), color, "box"))
    configuration = SubElement(element, "fieldConfiguration")
    widgets: dict[str, tuple[str, Element | None]] = {
        "verdict": ("ValueMap", _value_map(_CHOICES)),
        "proposed_class": ("ValueMap", _value_map({name: name for name in names(classes)})),
        "note": ("TextEdit", _options({"IsMultiline": "true", "UseHtml": "false"})),
        **dict.fromkeys(_HIDDEN, ("Hidden", None)),
    }
    for name in ("fid", *FIELDS):
        field = SubElement(configuration, "field", name=name, configurationFlags="None")
        kind, options = widgets.get(name, ("TextEdit", None))
        widget = SubElement(field, "editWidget", type=kind)
        config = SubElement(widget, "config")
        config.append(Element("Option") if options is None else options)
    aliases = SubElement(element, "aliases")
    for number, name in enumerate(("fid", *FIELDS)):
        SubElement(aliases, "alias", field=name, index=str(number), name=_TITLES.get(name, name.replace("_", " ")))
    table = SubElement(element, "attributetableconfig", sortExpression='"score"', sortOrder="1", actionWidgetStyle="")
    columns = SubElement(table, "columns")
    for name in ("fid", *FIELDS):
        SubElement(columns, "column", type="field", name=name, width="-1", hidden=str(int(name in _HIDDEN)))
    editable = SubElement(element, "editable")
    for name in ("fid", *FIELDS):
        SubElement(editable, "field", name=name, editable=str(int(name in _EDITABLE)))
    SubElement(
        element, "previewExpression"
    ).text = """"kind" || ' ' || coalesce("class", "proposed_class", '') || ', ' || round("score", 2)"""
    SubElement(element, "mapTip").text = "<b>[% kind %]</b> [% round(100 * score) %] %<br>[% reason %]"
    return element


def _proposals(crs: CRS | None) -> Element:
    element = _vector(PROPOSALS, "proposed outlines", f"./{TABLE}|layername={PROPOSALS}", crs)
    element.append(_single(_PROPOSED_COLOR))
    return element


def _layer(layer_id: str, layer: ProjectLayer, folder: Path) -> Element:
    source = _source(layer.path, folder)
    if layer.kind == "label vector":
        if layer.layer is not None:
            source += f"|layername={layer.layer}"
        element = _vector(layer_id, layer.name, source, layer.crs)
        element.append(_single(_LABEL_COLOR))
        return element
    element = _map_layer(layer_id, layer.name, source, layer.crs, "raster", "gdal")
    if layer.kind == "label raster":
        SubElement(element, "layerOpacity").text = "0.5"
    return element


def _vector(layer_id: str, name: str, source: str, crs: CRS | None) -> Element:
    return _map_layer(layer_id, name, source, crs, "vector", "ogr")


def _map_layer(layer_id: str, name: str, source: str, crs: CRS | None, kind: str, provider: str) -> Element:
    element = Element("maplayer", type=kind, hasScaleBasedVisibilityFlag="0")
    SubElement(element, "id").text = layer_id
    SubElement(element, "datasource").text = source
    SubElement(element, "layername").text = name
    if crs is not None:
        element.append(_crs("srs", crs))
    encoding = {"encoding": "UTF-8"} if kind == "vector" else {}
    SubElement(element, "provider", encoding).text = provider
    return element


def _single(color: Sequence[int]) -> Element:
    """Return how to draw outlines of one colour."""
    renderer = Element("renderer-v2", type="singleSymbol", symbollevels="0", enableorderby="0", forceraster="0")
    SubElement(renderer, "symbols").append(symbol("0", color, "box"))
    return renderer


def _source(path: Path, folder: Path) -> str:
    """Return how QGIS finds a file: relative to the project where that is possible."""
    if isinstance(path, Url):
        return path.gdal()
    if isinstance(path, Zipped):
        return f"/vsizip/{path}"
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return path.as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _group(tree: Element, name: str) -> Element:
    return SubElement(tree, "layer-tree-group", name=name, checked="Qt::Checked", expanded="1")


def _add(element: Element, group: Element, maps: Element) -> None:
    SubElement(
        group,
        "layer-tree-layer",
        id=element.findtext("id", ""),
        name=element.findtext("layername", ""),
        source=element.findtext("datasource", ""),
        providerKey=element.findtext("provider", ""),
        checked="Qt::Checked",
        expanded="0",
    )
    maps.append(element)


def _canvas(crs: CRS | None, extent: tuple[float, float, float, float] | None) -> Element:
    canvas = Element("mapcanvas", name="theMapCanvas", annotationsVisible="1")
    SubElement(canvas, "units").text = "degrees" if crs is not None and crs.is_geographic else "meters"
    if extent is not None:
        box = SubElement(canvas, "extent")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), extent, strict=True):
            SubElement(box, name).text = repr(value)
    if crs is not None:
        canvas.append(_crs("destinationsrs", crs))
    return canvas


def _crs(tag: str, crs: CRS) -> Element:
    element = Element(tag)
    reference = SubElement(element, "spatialrefsys")
    SubElement(reference, "wkt").text = crs.to_wkt()
    epsg = crs.to_epsg()
    if epsg is not None:
        SubElement(reference, "authid").text = f"EPSG:{epsg}"
    return element


def _value_map(choices: Mapping[str, str]) -> Element:
    """Return the choices of a field: value → text."""
    root = Element("Option", type="Map")
    entries = SubElement(root, "Option", name="map", type="List")
    for value, text in choices.items():
        entry = SubElement(entries, "Option", type="Map")
        SubElement(entry, "Option", name=text, type="QString", value=value)
    return root


def _options(values: Mapping[str, str]) -> Element:
    root = Element("Option", type="Map")
    for name, value in values.items():
        SubElement(root, "Option", name=name, type="bool", value=value)
    return root
