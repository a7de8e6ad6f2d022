"""The settings `labels`: how the labels of a scene are read, one type for each kind."""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, final

from typing_extensions import TypedDict

from rvbuild.files.formats import BoxFormat
from rvbuild.language.filters import Filter
from rvbuild.settings.parts import PartSettings


class CellSizeSettings(TypedDict):
    """How the cells of chip classification get their classes from a raster."""

    cell_px: int


class CellSettings(CellSizeSettings):
    """How the cells of chip classification get their classes from vectors."""

    cells: Literal["grid", "polygons"]
    rule: Literal["area", "ioa"]
    ioa_thresh: NotRequired[float]
    """Given with rule = ioa, as are the next two keys."""
    ioa_over: NotRequired[Literal["smaller", "cell", "polygon"]]
    pick: NotRequired[Literal["max_ioa", "min_id"]]


class ReadRasterSettings(TypedDict):
    """How the values of a label raster become classes."""

    encoding: Literal["id", "rgb"]
    map: dict[str, str] | None
    """The value, a whole number in its one spelling → class name; None if values are class ids."""
    other: str
    """`error`, or the class of values that are not a class."""
    nodata: int | list[int] | None
    """[] if every value is a label; None as the file declares."""
    resample: Literal["error", "nearest"]


@final
class RasterLabelSettings(ReadRasterSettings):
    """Labels as one raster, or as the rasters of one mosaic."""

    kind: Literal["raster"]


@final
class RasterCellSettings(ReadRasterSettings):
    """The same for labels of cells."""

    kind: Literal["raster"]
    cells: CellSizeSettings


@final
class RasterPartSettings(ReadRasterSettings, PartSettings):
    """A raster of several files that are laid over each other."""

    kind: Literal["raster"]


_WithClass = TypedDict("_WithClass", {"class": str | None})
"""The class of all features or boxes."""


class FilterSettings(TypedDict):
    """Which features of a layer are read."""

    encoding: NotRequired[str]
    where: NotRequired[Filter]


class FeatureSettings(FilterSettings, _WithClass):
    """How the features of vector files become labels."""

    layer: str | None
    """None for the only one."""
    class_attribute: str | None
    class_map: dict[str, str] | None
    class_where: NotRequired[list[tuple[str, Filter]]]
    """(class, filter) of each, in order."""
    all_touched: bool
    buffer_px: BufferSettings
    shift_m: NotRequired[list[float]]
    """East and north, in metres."""
    shift_px: NotRequired[list[float]]
    """Columns and rows, in pixels."""
    unknown: str
    """`error`, `drop`, or the class of features of unknown class."""


class BufferSettings(TypedDict):
    """How far features are widened, in pixels, by type of geometry; by class where classes differ."""

    Point: float | dict[str, float]
    LineString: float | dict[str, float]
    Polygon: NotRequired[float | dict[str, float]]


@final
class VectorLabelSettings(FeatureSettings):
    """Labels as vector files that are all read alike."""

    kind: Literal["vector"]
    background: str | None
    """The class where no feature is; None for the null class."""


@final
class VectorCellSettings(FeatureSettings):
    """The same for labels of cells."""

    kind: Literal["vector"]
    background: str | None
    cells: CellSettings


@final
class VectorTableSettings(FeatureSettings, PartSettings):
    """One of several tables of vector labels."""


@final
class VectorTablesSettings(TypedDict):
    """Labels as vector files of several tables, later ones over earlier ones."""

    kind: Literal["vector"]
    background: str | None
    parts: list[VectorTableSettings]


@final
class VectorTablesCellSettings(TypedDict):
    """The same for labels of cells."""

    kind: Literal["vector"]
    background: str | None
    parts: list[VectorTableSettings]
    cells: CellSettings


@final
class VectorPartSettings(FeatureSettings, PartSettings):
    """A table of vector labels among rasters."""

    kind: Literal["vector"]


@final
class LayeredLabelSettings(TypedDict):
    """Labels as rasters and vectors, later ones over earlier ones."""

    kind: Literal["layers"]
    background: str | None
    parts: list[RasterPartSettings | VectorPartSettings]


class BoxImageSettings(TypedDict):
    """Which image of a box file is the scene."""

    image: str | None
    """Its name in the file, if the project gives it."""
    scene_image: str | None
    """The path of the scene's image file, if it does not."""


class BoxReadSettings(BoxImageSettings):
    """What is read of a file of boxes."""

    kind: BoxFormat
    labels: bool
    """Whether the labels of its boxes count."""


@final
class BoxFileSettings(BoxImageSettings, _WithClass):
    """Labels as files of boxes in pixels."""

    kind: BoxFormat
    class_map: dict[str, str] | None
    unknown: str
    """`error`, `drop`, or the class of boxes of unknown class."""
    origin_px: NotRequired[list[int]]
    """The column and row at which the scene begins in the image whose pixels the boxes count."""


AnyVectorSettings: TypeAlias = (
    VectorLabelSettings | VectorCellSettings | VectorTablesSettings | VectorTablesCellSettings | VectorPartSettings
)
"""Labels as vector files, told apart by `parts` and `cells`."""

CellLabelSettings: TypeAlias = RasterCellSettings | VectorCellSettings | VectorTablesCellSettings
"""The labels of a scene whose classes are those of cells."""

LabelSettings: TypeAlias = (
    RasterLabelSettings
    | RasterCellSettings
    | VectorLabelSettings
    | VectorCellSettings
    | VectorTablesSettings
    | VectorTablesCellSettings
    | LayeredLabelSettings
    | BoxFileSettings
)
"""The labels of a scene, told apart by `kind`, `parts` and `cells`."""
