"""The settings `image` and `channels`: how the pixels of a scene are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NotRequired, TypeAlias, final

from annotated_types import Len
from typing_extensions import TypedDict

from rvbuild.settings.limits import MAX_PX, Index, Indices, Number
from rvbuild.settings.parts import PartSettings
from rvbuild.settings.transforms import TransformStep

Nodata: TypeAlias = Number | Annotated[list[Number], Len(0, MAX_PX)] | None
"""The value of pixels without data, or one value per band; [] if all values are data; None as the file declares."""

Resample: TypeAlias = Literal[
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "min", "max", "med"
]
"""How pixels are resampled, as GDAL calls it."""

Reduce: TypeAlias = Literal["median", "mean", "bands"]
"""How the layers of a stack that are times become one image."""


@final
class PixelBox(TypedDict):
    """A part of an image, in pixels."""

    px: list[int]
    """[x min, y min, x max, y max], the maxima excluded."""


@final
class MapBox(TypedDict):
    """A part of an image, in units of its CRS."""

    units: list[float]
    """[x min, y min, x max, y max]."""


class StackSettings(TypedDict):
    """How layers are put together."""

    layers: Layers
    primary: Index
    """The layer, from 0, whose grid the scene has."""
    reduce: Reduce | None
    """None for the bands of all layers, one after another."""


class LayerDefaults(TypedDict):
    """The settings of a layer that the image gives to all."""

    nodata: Nodata
    resample: Resample


class LayerSettings(LayerDefaults, PartSettings):
    """One layer of a stack: a raster, or several that make one mosaic."""

    channels: Indices | None
    """Its bands to use, from 0; None for all that are not alpha."""
    name: NotRequired[str]
    """The name of the asset, for a layer from STAC items."""
    layers: NotRequired[Layers]
    """The assets, for a time that consists of several."""
    primary: NotRequired[Index]
    """The asset whose grid the time has."""


Layers: TypeAlias = Annotated[list[LayerSettings], Len(1, MAX_PX)]


class TagSettings(TypedDict):
    """What the tags of the files mean."""

    alpha: NotRequired[bool]
    """Whether a band tagged as alpha is the mask; omitted to treat it as one if it looks like one."""
    palette: NotRequired[bool]
    """Whether indices become the colours of the colour table."""
    scale: NotRequired[bool]
    """Whether values become value × scale + offset."""


class ImageSettings(TagSettings):
    """How the image of a scene is read from its files."""

    nodata: Nodata
    layers: NotRequired[Layers]
    """The layers of a stack; this and the next two keys are those of `StackSettings`."""
    primary: NotRequired[Index]
    reduce: NotRequired[Reduce | None]
    bbox: NotRequired[PixelBox | MapBox]
    transform: NotRequired[Annotated[list[TransformStep], Len(0, MAX_PX)]]
    code: NotRequired[dict[str, str]]
    """Source text of users' transforms by dotted module name, in a bundle."""


class SceneImageSettings(TypedDict):
    """The settings of every stage that opens the image of a scene."""

    image: ImageSettings
    channels: Annotated[Sequence[Index], Len(1, MAX_PX)] | None
    """The bands to use, from 0; None for all that are not alpha."""
