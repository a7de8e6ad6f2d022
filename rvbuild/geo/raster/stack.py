"""Several images as one, on the grid of one of them: their bands one after another, or times reduced to one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.resampled import on_grid
from rvbuild.geo.raster.tags import STORED, Apply
from rvbuild.geo.windows import Window
from rvbuild.settings.image import LayerSettings, StackSettings


def open_stack(
    files: Sequence[Path], stack: StackSettings, channels: Sequence[int] | None, apply: Apply = STORED
) -> Layer:
    """Open a stack.

    Parameters
    ----------
    files
        Of all layers, one layer after another.
    stack
        The layers, and how they are put together.
    channels
        Which of the bands, from 0, in this order: of all layers together, or of each time.
    apply
        How the tags of all files are treated.

    Raises
    ------
    DataError
        A file cannot be opened, layers do not fit one another, or a channel does not exist.
    """
    layers, reduce, primary = stack["layers"], stack["reduce"], stack["primary"]
    expected = sum(layer["files"] for layer in layers)
    if expected != len(files):
        raise DataError(f"expected {expected} files for a stack of {len(layers)} layers, found {len(files)}")
    opened: list[Layer] = []
    first = 0
    try:
        for layer in layers:
            own = channels if reduce and channels is not None else layer["channels"]
            paths = files[first : first + layer["files"]]
            opened.append(_open_layer(paths, layer, own, apply))
            first += layer["files"]
        grid = opened[primary].grid
        aligned = [on_grid(source, grid, layer["resample"]) for source, layer in zip(opened, layers, strict=True)]
        if reduce is None:
            return BandStack(aligned, grid, channels)
        _require_alike(aligned)
        return BandStack(aligned, grid, None) if reduce == "bands" else TimeStack(aligned, grid, reduce)
    except BaseException:
        for source in opened:
            source.close()
        raise


def _open_layer(files: Sequence[Path], layer: LayerSettings, channels: Sequence[int] | None, apply: Apply) -> Layer:
    """Open one layer: a mosaic, or a stack of bands in a stack of times."""
    if "layers" in layer:
        stack: StackSettings = {"layers": layer["layers"], "primary": layer["primary"], "reduce": None}
        return open_stack(files, stack, channels, apply)
    source = open_image(files, nodata=layer["nodata"], channels=channels, apply=apply)
    if "name" in layer:
        name = layer["name"]
        source.descriptions = (name,) if source.count == 1 else tuple(f"{name}_{n + 1}" for n in range(source.count))
    return source


class _Stack(Layer):
    """Layers on one grid."""

    def __init__(self, layers: Sequence[Layer], grid: Grid, dtype: np.dtype[Any], names: Sequence[str]) -> None:
        super().__init__(
            grid,
            dtype=dtype,
            nodata=[None] * len(names),
            descriptions=names,
            files=[path for layer in layers for path in layer.files],
        )
        self._layers = tuple(layers)

    def sample_reads_all(self) -> bool:
        """Tell whether a coarse sample costs all pixels; see `Layer.sample_reads_all`."""
        return any(layer.sample_reads_all() for layer in self._layers)

    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return the bytes of decoded blocks; see `Layer.cache_bytes`."""
        return sum(layer.cache_bytes(rows, cols) for layer in self._layers)

    def close(self) -> None:
        """Close all files."""
        for layer in self._layers:
            layer.close()


class BandStack(_Stack):
    """The bands of all layers, one layer after another.

    Layers of different dtypes get the smallest dtype that represents all values of each.
    """

    def __init__(self, layers: Sequence[Layer], grid: Grid, channels: Sequence[int] | None) -> None:
        places = [(number, band) for number, layer in enumerate(layers) for band in range(layer.count)]
        for channel in channels or ():
            if not 0 <= channel < len(places):
                listed = ", ".join(f"{len(layer.descriptions)} of {layer.files[0].name}" for layer in layers)
                raise DataError(
                    f"{layers[0].files[0]}: channels: there is no band {channel}; the stack has the bands 0 to "
                    f"{len(places) - 1}: {listed}"
                )
        self._places = places if channels is None else [places[channel] for channel in channels]
        used = [layers[number] for number in dict.fromkeys(number for number, _ in self._places)]
        names = [layers[number].descriptions[band] for number, band in self._places]
        super().__init__(layers, grid, _common_dtype(used), names)

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        shape = (self.count, window.height, window.width)
        image, valid = np.empty(shape, dtype=self.dtype), np.empty(shape, dtype=bool)
        for number, layer in enumerate(self._layers):
            wanted = [(to, band) for to, (at, band) in enumerate(self._places) if at == number]
            if wanted:
                pixels, known = layer.read_raw(window)
                for to, band in wanted:
                    image[to], valid[to] = pixels[band], known[band]
        return image, valid


class TimeStack(_Stack):
    """One image of several times: each pixel is the mean or median of those times that have data there.

    Integers are rounded to the nearest, halves to even.
    """

    def __init__(self, layers: Sequence[Layer], grid: Grid, reduce: str) -> None:
        first = layers[0]
        super().__init__(layers, grid, first.dtype, first.descriptions)
        self._reduce = _REDUCERS[reduce]
        # Sums of integers of at most 16 bits are exact in float64, and so is their mean for any number of times.
        self._work = np.dtype(np.float32 if first.dtype == np.float32 else np.float64)

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        times = [layer.read(window) for layer in self._layers]
        images = np.stack([image for image, _ in times]).astype(self._work)
        valid = np.stack([known for _, known in times])
        counts = valid.sum(axis=0)
        image = self._reduce(images, valid, counts)
        if self.dtype.kind in "iu":
            image = np.rint(image)
        image[counts == 0] = 0
        return image.astype(self.dtype), counts > 0


Reals = NDArray[np.floating[Any]]


def _mean(images: Reals, valid: Mask, counts: NDArray[np.int64]) -> Reals:
    """Return the mean over the first axis of (T, C, H, W), of valid values; undefined where there are none."""
    total = np.where(valid, images, 0).sum(axis=0, dtype=np.float64)
    mean: Reals = total / np.maximum(counts, 1)
    return mean


def _median(images: Reals, valid: Mask, counts: NDArray[np.int64]) -> Reals:
    """Return the median over the first axis of (T, C, H, W), of valid values; undefined where there are none."""
    ordered = np.sort(np.where(valid, images, np.inf), axis=0)
    low = np.take_along_axis(ordered, np.maximum(counts - 1, 0)[np.newaxis] // 2, axis=0)[0]
    high = np.take_along_axis(ordered, counts[np.newaxis] // 2, axis=0)[0]
    with np.errstate(invalid="ignore"):
        median: Reals = low + (high - low) / 2
    return median


_REDUCERS: Mapping[str, Callable[[Reals, Mask, NDArray[np.int64]], Reals]] = {"mean": _mean, "median": _median}


def _require_alike(times: Sequence[Layer]) -> None:
    first = times[0]
    for layer in times:
        if (layer.count, layer.dtype) != (first.count, first.dtype):
            raise DataError(
                f"{first.files[0]} and {layer.files[0]} cannot be times of one scene: {first.count} bands of "
                f"{first.dtype} in the first, {layer.count} of {layer.dtype} in the second"
            )


def _common_dtype(layers: Sequence[Layer]) -> np.dtype[Any]:
    """Return the smallest dtype that represents all values of all layers."""
    dtype = np.result_type(*(layer.dtype for layer in layers))
    for layer in layers:
        if dtype.kind == "f" and layer.dtype.kind in "iu" and layer.dtype.itemsize * 8 > np.finfo(dtype).nmant + 1:
            dtypes = ", ".join(f"{each.files[0].name} is {each.dtype}" for each in layers)
            raise DataError(f"{layer.files[0]}: no dtype holds all values of the layers of the stack: {dtypes}")
    return dtype
