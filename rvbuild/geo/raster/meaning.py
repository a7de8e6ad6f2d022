"""The meaning of values by the tags of a scene's files, beyond what is applied: for users, and to compare scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.raster.tags import Apply, alphas_of, is_grey, looks_like_alpha, palette_of, scaling_of

MOST_FILES = 16
"""Maximum number of files of a scene to examine."""

_UNKNOWN = frozenset({ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette, ColorInterp.alpha})

_STRUCTURE = "IMAGE_STRUCTURE"


def meaning(files: Sequence[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tags say about the values of a scene, as JSON data, without the usual values.

    Parameters
    ----------
    files
        Those of the image. If there are many, only some are examined.
    settings
        `image` and `channels`, as for `rvbuild.geo.raster.open.open_scene_image`.

    Returns
    -------
    dict
        `alpha`: the `band` that is called alpha, from 0, and whether it is a `mask`, which the project does not say.
        `palette`: whether values are indices into a table of colours that are no ladder of greys.
        `scaling`: [scale, offset] that are not applied, each once. `colors`: what the bands are called if each is
        called a colour. `units`: of the values. `bits`: how many the values have, if fewer than their dtype.
        `inverted`: whether the lowest values are the brightest. `signed`: whether bytes are tagged as signed, but are
        read as unsigned.
    """
    apply = Apply.of(settings["image"])
    channels = None if "layers" in settings["image"] else settings["channels"]
    found: dict[str, Any] = {}
    for position in range(min(len(files), MOST_FILES)):
        with open_dataset(files[position * len(files) // min(len(files), MOST_FILES)]) as dataset:
            for key, value in _of_file(dataset, apply, channels).items():
                if isinstance(value, list) and key != "colors":
                    found[key] = [*found.get(key, []), *(one for one in value if one not in found.get(key, []))]
                else:
                    found.setdefault(key, value)
    if "alpha" in found:
        found["alpha"]["mask"] = looks_like_alpha(files, open_dataset) if apply.alpha is None else apply.alpha
    return found


def _of_file(dataset: Any, apply: Apply, channels: Sequence[int] | None) -> dict[str, Any]:
    """Return what the tags of one file say about the bands that are read."""
    alphas = alphas_of(dataset)
    plain = [index for index in dataset.indexes if index not in alphas] or list(dataset.indexes)
    indexes = plain if channels is None else [channel + 1 for channel in channels if channel < dataset.count]
    found: dict[str, Any] = {}
    unread = [index for index in alphas if index not in indexes]
    if unread:
        found["alpha"] = {"band": unread[0] - 1}
    structure = dataset.tags(ns=_STRUCTURE)
    palette, inverted = palette_of(dataset), structure.get("MINISWHITE") == "YES"
    if inverted and dataset.dtypes[0] != "uint8":
        palette = None  # GDAL makes one, whose colours have 8 bits
    if palette is not None and not apply.palette and not is_grey(palette):
        found["palette"] = True
    scaling = [list(pair) for pair in dict.fromkeys(scaling_of(dataset, indexes))]
    if not apply.scale and scaling != [[1.0, 0.0]]:
        found["scaling"] = scaling
    colors = [dataset.colorinterp[index - 1] for index in indexes]
    if len(colors) > 1 and not _UNKNOWN.intersection(colors):
        found["colors"] = [color.name for color in colors]
    units = list(dict.fromkeys(dataset.units[index - 1] for index in indexes if dataset.units[index - 1]))
    if units:
        found["units"] = units
    of_band = dataset.tags(indexes[0], ns=_STRUCTURE) if indexes else {}
    if of_band.get("NBITS", "").isdecimal():
        found["bits"] = int(of_band["NBITS"])
    if inverted and palette is None:
        found["inverted"] = True
    if of_band.get("PIXELTYPE") == "SIGNEDBYTE" and dataset.dtypes[0] == "uint8":
        found["signed"] = True
    return found
