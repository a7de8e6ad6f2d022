"""Transforms that change pixels as they are read: cast, reclass, nodata, nan, expression, function.

They apply in the order given, wherever an image is opened. Those that need statistics (stats, min_max, percentile) are
no part of this: chips hold the pixels as these here give them, and a model normalises them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError, RvbuildError, nearest
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.windows import Window
from rvbuild.language.expressions import BAND, parse
from rvbuild.language.user_code import load_object
from rvbuild.settings.transforms import (
    CastSettings,
    ExpressionSettings,
    FunctionSettings,
    NanSettings,
    NodataSettings,
    ReclassSettings,
    TransformStep,
)

PROBE_PX = 16
"""Side of the window on which dtype and bands of a function's result are determined."""


class Pixels(NamedTuple):
    """A window on its way through the transformers."""

    image: Image
    """(C, H, W); pixels that are not valid hold anything, for example NaN."""
    valid: Mask
    """(C, H, W) bool."""


Step = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class _Before:
    """The input of a transform: the bands that the one before it returns."""

    where: str
    dtype: np.dtype[Any]
    names: tuple[str, ...]
    code: Mapping[str, str] | None


class Transformed(Layer):
    """An image whose pixels pass through transforms.

    Parameters
    ----------
    source
        The image.
    transforms
        The steps, in order.
    code
        Source code by dotted module name that replaces the user's modules, from a bundle.

    Raises
    ------
    DataError
        A transformer cannot be applied to the bands that it gets.
    ModelError
        The user's function cannot be imported.
    """

    def __init__(
        self, source: Layer, transforms: Sequence[TransformStep], code: Mapping[str, str] | None = None
    ) -> None:
        self._source = source
        self._steps: list[Step] = []
        probe = Window(0, 0, min(PROBE_PX, source.grid.height), min(PROBE_PX, source.grid.width))
        pixels, names = Pixels(*source.read_raw(probe)), source.descriptions
        for number, settings in enumerate(transforms):
            where = f"{source.files[0]}: transform[{number}] ({settings['kind']})"
            step, names = _step(settings, _Before(where, pixels.image.dtype, names, code))
            pixels = step(pixels)
            if len(names) != len(pixels.image):
                names = tuple(f"{settings['kind']} {band}" for band in range(len(pixels.image)))
            self._steps.append(step)
        super().__init__(
            source.grid,
            dtype=pixels.image.dtype,
            nodata=[None] * len(names),
            descriptions=names,
            files=source.files,
        )

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        pixels = Pixels(*self._source.read_raw(window))
        for step in self._steps:
            pixels = step(pixels)
        image, valid = pixels
        if (len(image), image.dtype) != (self.count, self.dtype):
            raise DataError(
                f"{self.files[0]}: transform: expected {self.count} bands of {self.dtype} in every window, as in the "
                f"first; found {len(image)} of {image.dtype} in the window at row {window.row}, column {window.col}"
            )
        if not window.inside(self.grid.height, self.grid.width):
            # Filling nodata does not create pixels outside the scene.
            inside = np.zeros(valid.shape[1:], dtype=bool)
            inside[window.clip(self.grid.height, self.grid.width).slices_in(window)] = True
            valid = valid & inside
        return image, valid

    def sample_reads_all(self) -> bool:
        """Tell whether a coarse sample costs all pixels; see `Layer.sample_reads_all`."""
        return self._source.sample_reads_all()

    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return the bytes of decoded blocks; see `Layer.cache_bytes`."""
        return self._source.cache_bytes(rows, cols)

    def close(self) -> None:
        """Close all files."""
        self._source.close()


def _step(settings: TransformStep, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """Return a step, and the names of the bands that it returns."""
    if settings["kind"] == "cast":
        return _cast(settings, before)
    if settings["kind"] == "reclass":
        return _reclass(settings, before)
    if settings["kind"] == "nodata":
        return _nodata(settings, before)
    if settings["kind"] == "nan":
        return _nan(settings, before)
    if settings["kind"] == "expression":
        return _expression(settings, before)
    return _function(settings, before)


def _cast(settings: CastSettings, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """Converts the dtype: fractions are truncated, and values beyond its range become its lowest or highest value."""
    dtype = np.dtype(settings["dtype"])
    return lambda pixels: Pixels(_cast_to(pixels.image, pixels.valid, dtype), pixels.valid), before.names


def _cast_to(image: Image, valid: Mask, dtype: np.dtype[Any]) -> Image:
    if image.dtype == dtype:
        return image
    if dtype.kind == "f":
        limit = np.finfo(dtype).max
        # Infinity stays invalid.
        narrow = image.dtype.kind == "f" and dtype.itemsize < image.dtype.itemsize
        return (np.where(np.isinf(image), image, image.clip(-limit, limit)) if narrow else image).astype(dtype)
    limits = np.iinfo(dtype)
    if image.dtype.kind == "f":
        # In float64 every limit of an integer of at most 32 bits is exact.
        return np.trunc(np.where(valid, image, 0).astype(np.float64)).clip(limits.min, limits.max).astype(dtype)
    own = np.iinfo(image.dtype)
    return image.clip(max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)


def _reclass(settings: ReclassSettings, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """Other values for some values, all at once; the rest stays."""
    mapping = {int(value): int(other) for value, other in settings["map"].items()}
    for value, other in mapping.items():
        if not _holds(before.dtype, other):
            raise DataError(
                f"{before.where}: {value} = {other}: {other} cannot occur in {before.dtype} pixels; cast first"
            )
    known = {value: other for value, other in mapping.items() if _holds(before.dtype, value)}

    def step(pixels: Pixels) -> Pixels:
        image = pixels.image.copy()
        for value, other in known.items():
            image[pixels.image == value] = other
        return Pixels(image, pixels.valid)

    return step, before.names


def _nodata(settings: NodataSettings, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """A value for pixels without data, which count as data from then on."""
    value = _fill(settings["value"], before)

    def step(pixels: Pixels) -> Pixels:
        return Pixels(np.where(pixels.valid, pixels.image, value), np.ones_like(pixels.valid))

    return step, before.names


def _nan(settings: NanSettings, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """Replaces NaN by a value, which counts as data from then on."""
    if before.dtype.kind != "f":
        raise DataError(f"{before.where}: has no effect: {before.dtype} pixels are never NaN; remove it")
    value = _fill(settings["value"], before)

    def step(pixels: Pixels) -> Pixels:
        missing = np.isnan(pixels.image)
        return Pixels(np.where(missing, value, pixels.image), pixels.valid | missing)

    return step, before.names


def _expression(settings: ExpressionSettings, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """Bands computed from bands; where the result is not finite, there is no data."""
    expressions = {name: parse(text) for name, text in settings["bands"]}
    at: dict[str, int] = {}
    for name, expression in expressions.items():
        for band in expression.names:
            at[band] = _band(band, before, f'{before.where}: {name} = "{expression.text}"')
    wide = before.dtype.itemsize > 4 or (before.dtype.kind in "iu" and before.dtype.itemsize > 2)
    dtype = np.dtype(np.float64 if wide else np.float32)
    keep = settings["keep"]

    def step(pixels: Pixels) -> Pixels:
        bands = {name: pixels.image[index].astype(np.float64) for name, index in at.items()}
        images, valids = [pixels.image.astype(dtype)] * keep, [pixels.valid] * keep
        with np.errstate(all="ignore"):
            for expression in expressions.values():
                used = {name: bands[name] for name in expression.names}
                image = np.asarray(expression.evaluate(used, _FUNCTIONS, np.float64)).astype(dtype)
                valid = np.isfinite(image)
                for name in expression.names:
                    valid &= pixels.valid[at[name]]
                images.append(image[np.newaxis])
                valids.append(valid[np.newaxis])
        return Pixels(np.concatenate(images), np.concatenate(valids))

    return step, (*(before.names if keep else ()), *expressions)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log": np.log,
    "log10": np.log10,
    "exp": np.exp,
    "min": np.minimum,
    "max": np.maximum,
    "clip": lambda value, low, high: np.minimum(np.maximum(value, low), high),
    "where": lambda condition, yes, no: np.where(np.isnan(condition), np.nan, np.where(condition != 0, yes, no)),
}


def _band(name: str, before: _Before, where: str) -> int:
    """Return the position of a band: by its name, or else by position for `B1`, `B2`, …."""
    if before.names.count(name) == 1:
        return before.names.index(name)
    match = BAND.fullmatch(name)
    if match and int(match[1]) <= len(before.names):
        return int(match[1]) - 1
    known = [*(f"B{number}" for number in range(1, len(before.names) + 1)), *filter(str.isidentifier, before.names)]
    raise DataError(f'{where}: there is no band "{name}"{nearest(name, known) or "; known: " + ", ".join(known)}')


def _function(settings: FunctionSettings, before: _Before) -> tuple[Step, tuple[str, ...]]:
    """A user's function: `function(image, valid, **args)`, which returns an image, or an image and its mask."""
    spec, args = settings["function"], settings["args"]
    function = _load(spec, before.where, before.code)

    def step(pixels: Pixels) -> Pixels:
        image = pixels.image.copy()
        image[~pixels.valid] = 0
        try:
            with np.errstate(all="ignore"):
                returned = function(image, pixels.valid.copy(), **args)
        except RvbuildError:
            raise
        except Exception as error:
            raise DataError(f"{before.where}: {spec} failed: {type(error).__name__}: {error}") from error
        return _returned(returned, pixels, f"{before.where}: {spec}")

    return step, before.names


def _load(spec: str, where: str, code: Mapping[str, str] | None) -> Callable[..., Any]:
    """Import a function; source texts that take the place of modules are executed once, though several threads open."""
    if not code:
        return load_object(spec, where)
    with _LOADING:
        known = (spec, tuple(sorted(code.items())))
        if known not in _LOADED:
            _LOADED[known] = load_object(spec, where, code)
        return _LOADED[known]


_LOADING = threading.Lock()
_LOADED: dict[tuple[str, tuple[tuple[str, str], ...]], Callable[..., Any]] = {}


def _returned(returned: Any, pixels: Pixels, where: str) -> Pixels:
    """Return the result of a function, after validation."""
    image, valid = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    size = pixels.image.shape[1:]
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[1:] != size or not len(image):
        found = f"an array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"{where} returned {found}; expected an array of shape (bands, {size[0]}, {size[1]})")
    if image.dtype.kind not in "iuf":
        raise DataError(f"{where} returned {image.dtype} pixels; expected integer or real ones")
    if valid is None:
        same = len(image) == len(pixels.image)
        valid = pixels.valid.copy() if same else np.repeat(pixels.valid.all(axis=0, keepdims=True), len(image), axis=0)
    elif not isinstance(valid, np.ndarray) or valid.shape != image.shape or valid.dtype != np.bool_:
        raise DataError(f"{where} returned a mask that is not a bool array of the image's shape {image.shape}")
    return Pixels(image, valid & np.isfinite(image) if image.dtype.kind == "f" else valid)


def _fill(value: float, before: _Before) -> NDArray[Any]:
    if not _holds(before.dtype, value):
        raise DataError(f"{before.where}: value: {value:g} cannot occur in {before.dtype} pixels; cast first")
    return np.array(value, dtype=before.dtype)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Tell whether a pixel can be `value`."""
    if dtype.kind == "f":
        return bool(abs(value) <= np.finfo(dtype).max)
    return value == int(value) and bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
