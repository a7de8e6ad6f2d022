"""Tags of a scene's files that change the meaning of values and are not applied: for users, and to compare scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from rasterio.enums import ColorInterp

from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.raster.tags import Apply, alphas_of, is_grey, looks_like_alpha, palette_of, scaling_of
from rvbuild.settings.image import SceneImageSettings

MOST_FILES = 16
"""Maximum number of files of a scene to examine."""

_UNKNOWN = frozenset({ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette, ColorInterp.alpha})

_STRUCTURE = "IMAGE_STRUCTURE"


class AlphaTag(TypedDict):
    """A band that is tagged as alpha."""

    band: int
    """From 0."""
    mask: NotRequired[bool]
    """Whether it is treated as a mask; known of a scene, not of a single file."""


class TagFacts(TypedDict, total=False):
    """The tags of a scene's files that change the meaning of values; what is usual is left out."""

    alpha: AlphaTag
    palette: bool
    """Whether values are indices into a colour table that is not a ramp of greys."""
    scaling: list[list[float]]
    """[scale, offset] that are not applied, each once."""
    colors: list[str]
    """The names of the bands, if each is tagged as a colour."""
    units: list[str]
    """Of the values, each once."""
    bits: int
    """The bits of a value, if fewer than its dtype has."""
    inverted: bool
    """Whether the lowest values are the brightest."""
    signed: bool
    """Whether bytes are tagged as signed, but read as unsigned."""


def meaning(files: Sequence[Path], settings: SceneImageSettings) -> TagFacts:
    """Return the tags of a scene's files that change the meaning of its values.

    Parameters
    ----------
    files
        Those of the image. If there are many, only some are examined.
    settings
        As for `rvbuild.geo.raster.open.open_scene_image`.
    """
    apply = Apply.of(settings["image"])
    channels = None if "layers" in settings["image"] else settings["channels"]
    tags: TagFacts = {}
    for position in range(min(len(files), MOST_FILES)):
        with open_dataset(files[position * len(files) // min(len(files), MOST_FILES)]) as dataset:
            tags = _merged(tags, _of_file(dataset, apply, channels))
    if "alpha" in tags:
        tags["alpha"]["mask"] = looks_like_alpha(files, open_dataset) if apply.alpha is None else apply.alpha
    return tags


def _merged(tags: TagFacts, others: TagFacts) -> TagFacts:
    """Return the tags of several files: all scalings and units, and of everything else what the first file has."""
    merged: TagFacts = {**others, **tags}
    if "scaling" in tags and "scaling" in others:
        merged["scaling"] = tags["scaling"] + [pair for pair in others["scaling"] if pair not in tags["scaling"]]
    if "units" in tags and "units" in others:
        merged["units"] = tags["units"] + [unit for unit in others["units"] if unit not in tags["units"]]
    return merged


def _of_file(dataset: Any, apply: Apply, channels: Sequence[int] | None) -> TagFacts:
    """Return the tags of one file that change the meaning of the bands that are read."""
    alphas = alphas_of(dataset)
    plain = [index for index in dataset.indexes if index not in alphas] or list(dataset.indexes)
    indexes = plain if channels is None else [channel + 1 for channel in channels if channel < dataset.count]
    tags: TagFacts = {}
    unread = [index for index in alphas if index not in indexes]
    if unread:
        tags["alpha"] = {"band": unread[0] - 1}
    structure = dataset.tags(ns=_STRUCTURE)
    palette, inverted = palette_of(dataset), structure.get("MINISWHITE") == "YES"
    if inverted and dataset.dtypes[0] != "uint8":
        palette = None  # GDAL makes one, whose colours have 8 bits
    if palette is not None and not apply.palette and not is_grey(palette):
        tags["palette"] = True
    scaling = [list(pair) for pair in dict.fromkeys(scaling_of(dataset, indexes))]
    if not apply.scale and scaling != [[1.0, 0.0]]:
        tags["scaling"] = scaling
    colors = [dataset.colorinterp[index - 1] for index in indexes]
    if len(colors) > 1 and not _UNKNOWN.intersection(colors):
        tags["colors"] = [color.name for color in colors]
    units = list(dict.fromkeys(dataset.units[index - 1] for index in indexes if dataset.units[index - 1]))
    if units:
        tags["units"] = units
    of_band = dataset.tags(indexes[0], ns=_STRUCTURE) if indexes else {}
    if of_band.get("NBITS", "").isdecimal():
        tags["bits"] = int(of_band["NBITS"])
    if inverted and palette is None:
        tags["inverted"] = True
    if of_band.get("PIXELTYPE") == "SIGNEDBYTE" and dataset.dtypes[0] == "uint8":
        tags["signed"] = True
    return tags
