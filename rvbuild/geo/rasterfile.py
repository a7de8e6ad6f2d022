"""One raster file: its bands, its grid, and which of its pixels are data."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import ensure_env_with_credentials
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window as RasterioWindow

from rvbuild.errors import DataError
from rvbuild.geo import admission
from rvbuild.geo.drivers import RASTERS_BY_SUFFIX, raster_drivers
from rvbuild.geo.environment import not_georeferenced_is_fine
from rvbuild.geo.grid import Grid
from rvbuild.geo.quiet import undisturbed
from rvbuild.geo.windows import Window
from rvbuild.urls import UnreachableError, Url
from rvbuild.zipped import Zipped

not_georeferenced_is_fine()

Image = NDArray[Any]
Mask = NDArray[np.bool_]
Nodata = float | None
NodataSetting = float | Sequence[float | None] | None
"""What a project says of nodata: nothing (the file's own value counts), one value, or one value per band; an empty
sequence says that no value means nodata, whatever the file says."""


@dataclass(frozen=True)
class Bands:
    """Which bands of a file are read, and how their valid pixels are known."""

    indexes: tuple[int, ...]
    """Bands as GDAL counts them, from 1."""
    dtype: np.dtype[Any]
    nodata: tuple[Nodata, ...]
    """Per band that is read; None: no value means nodata."""
    descriptions: tuple[str, ...]
    alpha: int | None
    """The alpha band, from 1, if there is one and it is not read as data."""
    masked: bool
    """Whether the file has masks of its own (a mask band or a `.msk` file)."""


ELSEWHERE: Mapping[str, str] = {
    # Files beside one that is elsewhere do not count: their state is not known.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # What a server had at an earlier opening is not what it has now.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
}
"""How GDAL opens files elsewhere."""


DRIVERS: Mapping[str, str] = {
    ".ecw": "ECW",
    ".sid": "MrSID",
    ".jp2": "JP2OpenJPEG",
    ".j2k": "JP2OpenJPEG",
    ".nc": "netCDF",
    ".hdf": "HDF4",
    ".h5": "HDF5",
    ".kea": "KEA",
}
"""Drivers that a GDAL may lack, by the suffix of files."""


RASTERS_BY_NAMES = frozenset(driver for drivers in RASTERS_BY_SUFFIX.values() for driver in drivers)
"""Drivers of rasters that name other files."""


def open_dataset(path: Path) -> Any:
    """Open a raster with rasterio for reading.

    Raises
    ------
    DataError
        GDAL cannot open the file, it leads where nothing may be read, or it holds sub-datasets instead of bands.
    """
    admission.require(path)
    allowed = raster_drivers(path.suffix)
    try:
        with rasterio.Env(**ELSEWHERE) if isinstance(path, Url) else nullcontext(), undisturbed(path) as place:
            dataset = _open(place, allowed)
    except rasterio.errors.RasterioIOError as error:
        why = lacking_driver(path) or f"cannot be opened as a raster: {_refused(path) or error}"
        raise DataError(f"{path}: {why}") from error
    if dataset.driver in RASTERS_BY_NAMES:
        try:
            admission.require_files(path, dataset.files)
        except DataError:
            dataset.close()
            raise
    if dataset.count == 0:
        names = ", ".join(dataset.subdatasets[:5])
        dataset.close()
        raise DataError(f"{path}: has no bands of its own{f'; open one of its sub-datasets: {names}' if names else ''}")
    return dataset


def _open(path: Path, allowed: list[str]) -> Any:
    if isinstance(path, Zipped):
        with path.open("rb") as stream, ExitStack() as stack:
            memory = stack.enter_context(MemoryFile(stream.read()))
            dataset = memory.open(driver=allowed)
            dataset._env.enter_context(stack.pop_all())
            return dataset
    name = path.gdal() if isinstance(path, Url) else os.fspath(path)
    return _open_by_name(name, allowed)


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def _open_by_name(name: str, allowed: list[str]) -> Any:
    """Open a file with some drivers alone, which `rasterio.open` cannot be told."""
    return DatasetReader(name, driver=allowed)


def _refused(path: Path) -> str:
    """Return why a server does not give a file; empty if it would, or if the file is here."""
    if not isinstance(path, Url):
        return ""
    from rvbuild.fetch import identity  # what asks servers is loaded where there are some

    try:
        identity(str(path))
    except UnreachableError as error:
        return str(error)
    return ""


def require_complete(path: Path) -> None:
    """Read the last pixel of a raster: what was cut short while it was copied often lacks its end.

    Raises
    ------
    DataError
        It cannot be read.
    """
    with open_dataset(path) as dataset:
        try:
            dataset.read(window=RasterioWindow(dataset.width - 1, dataset.height - 1, 1, 1))
        except rasterio.errors.RasterioIOError as error:
            raise DataError(
                f"{path}: its last pixel cannot be read, so that the file is incomplete or damaged ({error}). Copy it "
                "once more"
            ) from error


def lacking_driver(path: Path) -> str:
    """Return what to do if this GDAL cannot read files that are called like this one; empty if it can."""
    name = DRIVERS.get(path.suffix.lower())
    with rasterio.Env() as environment:
        if name is None or name in environment.drivers():
            return ""
    return (
        f"needs GDAL's driver {name}, which rasterio's GDAL {rasterio.__gdal_version__} does not have here. Convert "
        f"the file where there is one (`gdal_translate -of COG {path.name} {path.stem}.tif`), or let GDAL_DRIVER_PATH "
        "name the directory of a plugin for this version of GDAL"
    )


def grid_of(path: Path, dataset: Any) -> Grid:
    """Return the pixel grid of an open dataset.

    Raises
    ------
    DataError
        The file is placed by ground control points only, so that no affine transform describes it, or its transform
        gives pixels no area.
    """
    transform = dataset.transform
    if transform.is_identity and dataset.gcps[0]:
        raise DataError(
            f"{path}: is georeferenced by ground control points only; expected an affine transform. "
            "Warp it first, for example with `gdalwarp`"
        )
    a, b, c, d, e, f = transform[:6]
    if not all(map(math.isfinite, (a, b, c, d, e, f))) or a * e - b * d == 0:
        raise DataError(
            f"{path}: its transform ({', '.join(f'{value:g}' for value in (a, b, c, d, e, f))}) gives pixels no area "
            "on the map. Write the right one, for example with `gdal_edit.py -a_ullr`"
        )
    return Grid(dataset.height, dataset.width, transform, dataset.crs)


def select_bands(path: Path, dataset: Any, channels: Sequence[int] | None, nodata: NodataSetting) -> Bands:
    """Return the bands that `channels` (indices from 0) names, or all that are not alpha if it is None.

    A band that `channels` names is data, even if the file calls it alpha. `nodata` overrides the file's own values.

    Raises
    ------
    DataError
        A channel does not exist, the bands differ in dtype, or `nodata` does not fit them.
    """
    alphas = [index for index, kind in enumerate(dataset.colorinterp, start=1) if kind == ColorInterp.alpha]
    plain = [index for index in dataset.indexes if index not in alphas]
    if channels is None:
        indexes = plain or list(dataset.indexes)
    else:
        for channel in channels:
            if not 0 <= channel < dataset.count:
                raise DataError(f"{path}: channels: there is no band {channel}; its bands are {_band_list(dataset)}")
        indexes = [channel + 1 for channel in channels]
    if not indexes:
        raise DataError(
            f"{path}: channels: expected at least one band, found none; its bands are {_band_list(dataset)}"
        )
    dtypes = {index: dataset.dtypes[index - 1] for index in indexes}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"band {index - 1} is {dtype}" for index, dtype in dtypes.items())
        raise DataError(f"{path}: expected bands of one dtype, found: {found}. Select bands with `channels`")
    if dtypes[indexes[0]].startswith("complex"):  # numpy knows some of them, GDAL has more
        raise DataError(
            f"{path}: expected integer or real pixels, found {dtypes[indexes[0]]}. Write their magnitude, for example "
            "with `gdal_translate -ot Float32` or `gdal_calc.py`"
        )
    dtype = np.dtype(dtypes[indexes[0]])
    unused_alphas = [index for index in alphas if index not in indexes]
    flags = [dataset.mask_flag_enums[index - 1] for index in indexes]
    own_masks = [not enums or (MaskFlags.per_dataset in enums and MaskFlags.alpha not in enums) for enums in flags]
    return Bands(
        indexes=tuple(indexes),
        dtype=dtype,
        nodata=_nodata_per_band(path, dataset, indexes, alphas, dtype, nodata),
        descriptions=tuple(dataset.descriptions[index - 1] or f"band {index - 1}" for index in indexes),
        alpha=unused_alphas[0] if unused_alphas else None,
        masked=any(own_masks),
    )


def read_bands(path: Path, dataset: Any, bands: Bands, window: Window) -> tuple[Image, Mask | None]:
    """Read a window that lies inside the file, with a plain read.

    Returns
    -------
    image : (C, H, W) in the file's dtype; invalid pixels keep what the file holds
    valid : (C, H, W) bool, or None if every pixel of the window is data
    """
    where = RasterioWindow(window.col, window.row, window.width, window.height)
    try:
        image: Image = dataset.read(list(bands.indexes), window=where)
        valid: Mask | None = None
        if bands.alpha is not None:
            valid = _merge(valid, np.broadcast_to(dataset.read(bands.alpha, window=where) != 0, image.shape))
        if bands.masked:
            valid = _merge(valid, dataset.read_masks(list(bands.indexes), window=where) != 0)
    except rasterio.errors.RasterioIOError as error:
        # Rasterio's own text only points to GDAL's.
        said = str(error.__cause__ or error).rstrip(".")
        raise DataError(
            f"{path}: cannot read rows {window.row} to {window.row_stop - 1}, columns {window.col} to "
            f"{window.col_stop - 1}: {said}. Is the file complete?"
        ) from error
    if bands.dtype.kind == "f":
        valid = _merge(valid, np.isfinite(image))
    for band, value in enumerate(bands.nodata):
        if value is None or math.isnan(value):
            continue
        if valid is None or not valid.flags.writeable:
            valid = np.ones(image.shape, dtype=bool) if valid is None else valid.copy()
        valid[band] &= image[band] != bands.dtype.type(value)
    return image, valid


def _merge(valid: Mask | None, more: Mask) -> Mask:
    return more if valid is None else valid & more


def _nodata_per_band(
    path: Path, dataset: Any, indexes: list[int], alphas: list[int], dtype: np.dtype[Any], setting: NodataSetting
) -> tuple[Nodata, ...]:
    if setting is None:
        return tuple(_representable(dataset.nodatavals[index - 1], dtype) for index in indexes)
    if isinstance(setting, int | float):
        values: dict[int, Nodata] = dict.fromkeys(indexes, setting)
    elif not setting:
        values = {}
    else:
        plain = [index for index in dataset.indexes if index not in alphas]
        named = plain if len(setting) == len(plain) else list(dataset.indexes)
        if len(setting) != len(named):
            raise DataError(
                f"{path}: nodata: expected one value or one per band, {dataset.count} for the bands "
                f"{_band_list(dataset)}; found {len(setting)}"
            )
        values = dict(zip(named, setting, strict=True))
    for index in indexes:
        value = values.get(index)
        if value is not None and _representable(value, dtype) is None:
            raise DataError(f"{path}: nodata: {value:g} cannot occur in {dtype} pixels (band {index - 1})")
    return tuple(values.get(index) for index in indexes)


def _representable(value: float | None, dtype: np.dtype[Any]) -> Nodata:
    """Return `value` if a pixel of this dtype can hold it, or None: what cannot occur masks nothing."""
    if value is None or dtype.kind == "f":
        return value
    if not math.isfinite(value) or value != int(value):
        return None
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max else None


def _band_list(dataset: Any) -> str:
    names = zip(dataset.descriptions, dataset.colorinterp, strict=True)
    return ", ".join(f"{index} ({text or kind.name})" for index, (text, kind) in enumerate(names))
