"""The `labels` of a scene: a raster of class ids or colours, or a vector file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag

from rvbuild.project.scenes.box_files import TABLES as BOX_FILES
from rvbuild.project.scenes.box_files import AnyBoxFileTable, BoxFileTable
from rvbuild.project.scenes.vectors import ENCODING, BufferTable, Encoding, FilterValue, Shift
from rvbuild.project.tables.classes import parse_color
from rvbuild.project.tasks import keys_of_tasks
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, Fraction, Pixels, SomePaths, Table, expected, no_effect, wrong
from rvbuild.settings.labels import FeatureSettings, ReadRasterSettings

_INTEGER = re.compile(r"[+-]?[0-9]+")


def _number_or_none(value: object) -> object:
    if value is None or type(value) is int or value == ():
        return value
    return () if value == [] else expected("a whole number, or [] for none")


Nodata: TypeAlias = Annotated[int | tuple[()] | None, BeforeValidator(_number_or_none)]

_CELL_PX = "For chip_classification: side of a cell, in pixels. Default: chip.size_px."


class RasterLabelsTable(Table):
    """Labels as a raster on the grid of the image."""

    not_settings = ("raster", "cell_px")

    later: ClassVar[dict[str, str]] = dict.fromkeys(
        ("class", "class_attribute", "class_map", "background"),
        "is a key of vector labels; for a raster, use encoding, map and other",
    )

    raster: SomePaths = Field(description="The label raster, or the rasters of one mosaic.")
    encoding: Literal["id", "rgb"] = Field(
        "id", description="Content of a pixel: id, a class id (or a value of map); rgb, the colour of a class."
    )
    map: dict[str, str] | None = Field(
        None,
        description='With encoding = id: value of the raster → class name, for example { 1 = "building" }. Default: '
        "the values are class ids. With encoding = rgb, the colours are always those of the classes.",
    )
    other: str = Field("error", description="How to treat values that are not a class: error, or the name of a class.")
    nodata: Nodata = Field(
        None,
        description="Value of pixels without a label, which become null; [] if every value is a label, even if the "
        "file declares a nodata value. Default: the nodata value of the file.",
    )
    resample: Literal["error", "nearest"] = Field(
        "error", description="What to do if the raster is not on the grid of the image: error, or resample by nearest."
    )
    cell_px: Pixels | None = Field(None, description=_CELL_PX + " A cell has the class of most of its pixels.")

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths, in their original form."""
        return self.raster

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes, and values that a label raster cannot contain."""
        yield from _class(("other",), self.other, context, also=("error",))
        if self.map is not None and self.encoding == "rgb":
            yield no_effect("map", 'with encoding = "rgb": a colour stands for the class that has it', "encoding")
            return
        if self.map == {}:
            yield Finding(("map",), "the table is empty")
        seen: dict[str, str] = {}
        for value, name in (self.map or {}).items():
            yield from _class(("map", value), name, context)
            canonical = _whole(value)
            if canonical is None:
                yield Finding(("map", value), f"expected a whole number, found {show(value)}{_encoding_hint(value)}")
            elif seen.setdefault(canonical, value) != value:
                yield Finding(("map", value), f"stands for the same value as {show(seen[canonical])}")

    def stage_settings(self) -> ReadRasterSettings:
        """Return the settings to read the values, without the paths."""
        settings = self.settings_as(ReadRasterSettings)
        if self.map is not None:
            settings["map"] = {_whole(value) or value: name for value, name in self.map.items()}
        return settings


def _whole(value: str) -> str | None:
    """Return a whole number in its canonical form (`1` for `01`), or None if it is not one."""
    return str(int(value)) if _INTEGER.fullmatch(value) else None


def _encoding_hint(value: str) -> str:
    """Return a hint if a key of `map` is a colour."""
    return '; for colours, set encoding = "rgb" and leave map out' if parse_color(value) else ""


class VectorLabelsTable(Table):
    """Labels as polygons, lines or points."""

    # A task adds its own; the background is that of the scene.
    not_settings = ("vector", "background", *keys_of_tasks("labels"))
    omitted_defaults = ("encoding", "class_where", "where", "shift_m", "shift_px")

    later: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("map", "other"), "is a key of raster labels; here it is class_map and unknown"),
    }

    vector: SomePaths = Field(description="One or more vector files, in any format and CRS, read in order.")
    layer: str | None = Field(None, description="Layer of the file. Default: its only layer.")
    encoding: Encoding | None = Field(None, description=ENCODING)
    class_: str | None = Field(None, alias="class", description="Class of all features.")
    class_attribute: str | None = Field(
        None,
        description="Attribute with the class of a feature: its name, its id, or a key of class_map. Default, if class "
        "is not set: class_id, or the name in class_name or label.",
    )
    class_map: dict[str, str] | None = Field(
        None, description="Value of the attribute → class name. Default: the values are class names, or ids."
    )
    class_where: dict[str, FilterValue] | None = Field(
        None,
        description="Class → filter: a feature without a class in its attributes gets the first class whose filter it "
        "passes.",
    )
    where: FilterValue | None = Field(
        None,
        description="Which features to use: a filter such as \"height > 3 AND kind IN ('a', 'b')\" or "
        '[">", "height", 3]. Default: all of them.',
    )
    background: str | None = Field(
        None, description="Class of the pixels without a feature. Default: null, so they are not trained on."
    )
    all_touched: bool = Field(
        False,
        description="Whether a feature covers every pixel that it touches, not only those with their centre inside.",
    )
    buffer_px: BufferTable = Field(
        default_factory=lambda: BufferTable.model_validate({}),
        description="Buffer around points and lines, and growth of polygons, in pixels.",
    )
    shift_m: Shift | None = Field(
        None, description="Move all features by [x, y] metres, along the axes of the image's CRS: east and north."
    )
    shift_px: Shift | None = Field(None, description="Move all features by [columns, rows] pixels: right and down.")
    unknown: str = Field(
        "error",
        description="How to treat features of unknown class: error, drop (leave them out), or the name of a class.",
    )
    cell_px: Pixels | None = Field(None, description=_CELL_PX)
    cells: Literal["grid", "polygons"] = Field(
        "grid",
        description="For chip_classification: the cells to train on and evaluate: grid, squares of cell_px; polygons, "
        "the bounds of each feature. Predictions are always on the grid.",
    )
    rule: Literal["area", "ioa"] = Field(
        "area",
        description="For chip_classification: the class of a cell: area, the class that covers most of it; ioa, the "
        "class of a feature that overlaps it enough.",
    )
    ioa_thresh: Fraction = Field(0.5, description="With rule = ioa: the minimum intersection over area of a feature.")
    ioa_over: Literal["smaller", "cell", "polygon"] = Field(
        "smaller",
        description="With rule = ioa: the area in the ratio: of the cell, of the polygon, or the smaller one.",
    )
    pick: Literal["max_ioa", "min_id"] = Field(
        "max_ioa",
        description="With rule = ioa: which of several classes a cell gets: that of the feature with the largest "
        "overlap (max_ioa), or the one with the smallest id (min_id).",
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths, in their original form."""
        return self.vector

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes and keys that exclude each other."""
        if self.class_ is not None:
            yield from _class(("class",), self.class_, context)
        if self.background is not None:
            yield from _class(("background",), self.background, context)
        yield from _class(("unknown",), self.unknown, context, also=("error", "drop"))
        for value, name in (self.class_map or {}).items():
            yield from _class(("class_map", value), name, context)
        for name in self.class_where or ():
            yield from _class(("class_where", name), name, context)
        for field in ("class_map", "class_where"):
            if getattr(self, field) == {}:
                yield Finding((field,), "the table is empty")
        if self.shift_m is not None and self.shift_px is not None:
            yield Finding(("shift_px",), 'expected either "shift_m" or "shift_px", found both', (("shift_m",),))
        if self.class_ is not None and self.class_attribute is not None:
            yield Finding(
                ("class_attribute",),
                f'expected either "class" or "class_attribute", found both; {_UNKNOWN_HINT}',
                (("class",),),
            )
        elif self.class_ is not None:
            for field in ("class_map", "class_where", "unknown"):
                if self.is_set(field):
                    yield no_effect(
                        field, 'with "class", which all features get; set "class_attribute" instead', "class"
                    )
        if self.class_ is not None and self.class_ == self.background:
            yield Finding(
                ("background",),
                f"{show(self.background)} is also the class of all features, so there is nothing to learn",
                (("class",),),
            )

    def stage_settings(self, classes: tuple[str, ...] = ()) -> FeatureSettings:
        """Return the settings of the features, without the paths.

        Parameters
        ----------
        classes
            The names of all classes, for tables that give values to some of them.
        """
        settings = self.settings_as(FeatureSettings)
        settings["buffer_px"] = self.buffer_px.stage_settings(classes)
        if self.class_where is not None:
            # A list, because the order matters and JSON objects have none.
            settings["class_where"] = list(self.class_where.items())
        return settings


_COMMON = ("background", *keys_of_tasks("labels"))
"""The keys that apply to a scene, not to one of its files."""


def background(tables: tuple[AnyLayer, ...]) -> str | None:
    """Return the class of pixels that no table labels; None for the null class."""
    return next(
        (class_name for table in tables if (class_name := getattr(table, "background", None)) is not None), None
    )


def joined(tables: tuple[Layer, ...]) -> Layer:
    """Return the first of several tables of labels, with the scene's keys from all of them."""
    values = {key: getattr(table, key) for key in _COMMON for table in reversed(tables) if table.is_set(key)}
    first = tables[0].model_copy(update=values)
    first.model_fields_set.update(values)
    return first


def scene_table(labels: object) -> object:
    """Return the table with the keys that apply to the scene: the only table of labels, or several joined."""
    return joined(labels) if isinstance(labels, tuple) else labels


def check_layers(tables: tuple[AnyLayer, ...], context: Context) -> Iterator[Finding]:
    """Yield contradictions between several tables of labels of a scene."""
    for key in _COMMON:
        first, *later = [number for number, table in enumerate(tables) if table.is_set(key)] or [0]
        for number in later:
            if getattr(tables[number], key) != getattr(tables[first], key):
                earlier = f"{show(getattr(tables[first], key))} in the table before"
                yield Finding((number, key), f"applies to the scene, and is {earlier}; set it once", ((first, key),))


AnyLayer: TypeAlias = RasterLabelsTable | VectorLabelsTable
"""One of several tables of labels of a scene."""

Layer = TypeVar("Layer", RasterLabelsTable, VectorLabelsTable)

_UNKNOWN_HINT = 'for features with another value of the attribute, set unknown = "<class>"'


def _class(key: tuple[str, ...], name: str, context: Context, also: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Yield a finding if the value of an option is neither a class nor one of the words in `also`."""
    if problem := context.class_problem(name, also=also):
        yield Finding(key, problem)


_KINDS = ("raster", "vector", *BOX_FILES)
_FORMS = '{ raster = "labels_{id}.tif" } or { vector = "labels_{id}.geojson", class = "…" }'


def _pick(value: object) -> object:
    """Reject anything but a table of labels before its kind is determined."""
    if value is False or isinstance(value, Table):
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if all(("vector" in item) != ("raster" in item) for item in value):
            return value
        return wrong("a list of labels can only hold tables with raster or vector; later ones take precedence")
    if not isinstance(value, dict):
        return expected(f"a table such as {_FORMS}, or false")
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) > 1:
        return wrong(f"expected either {' or '.join(map(show, kinds))}, found {'both' if len(kinds) == 2 else 'all'}")
    if not kinds:
        return wrong(f'the table has neither "raster" nor "vector"; expected a table such as {_FORMS}')
    return value


def _kind(value: object) -> str:
    """Return the tag of a table of labels."""
    if isinstance(value, RasterLabelsTable) or (isinstance(value, dict) and "raster" in value):
        return "<raster>"
    if isinstance(value, list | tuple):
        return "<layers>"
    if isinstance(value, BoxFileTable):
        return f"<{value.kind}>"
    if isinstance(value, dict) and (kind := next((kind for kind in BOX_FILES if kind in value), None)):
        return f"<{kind}>"
    return "<none>" if value is False else "<vector>"


AnyLabelsTable: TypeAlias = Annotated[
    Annotated[RasterLabelsTable, Tag("<raster>")]
    | AnyBoxFileTable
    | Annotated[VectorLabelsTable, Tag("<vector>")]
    | Annotated[
        tuple[
            Annotated[
                Annotated[RasterLabelsTable, Tag("<raster>")] | Annotated[VectorLabelsTable, Tag("<vector>")],
                Discriminator(_kind),
            ],
            ...,
        ],
        Strict(False),
        Tag("<layers>"),
    ]
    | Annotated[Literal[False], Tag("<none>")],
    Discriminator(_kind),
    BeforeValidator(_pick),
]
"""The labels of a scene. A tuple holds several rasters or vector files on top of each other, each with its settings;
False means that the scene has no labels although `[scene]` sets them."""
