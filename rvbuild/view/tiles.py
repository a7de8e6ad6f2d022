"""Tiles of a scene's layers: each a square of pixels of the scene's own grid, every `step`-th of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from rvbuild.errors import UsageError
from rvbuild.geo.classes import NODATA, palette
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.sample import sampled
from rvbuild.geo.windows import Window
from rvbuild.view import contrast
from rvbuild.view.coarse import read_sample
from rvbuild.view.readers import Memo
from rvbuild.view.scenes import Shown, ViewedScene

TILE_PX = 256
"""Side of a tile on the screen."""

MOST_STEP = 1 << 20

FALSE_NEGATIVE, FALSE_POSITIVE, WRONG = (220, 38, 127), (255, 176, 0), (220, 38, 127)
"""Colours of errors that people with any colour vision can tell from each other."""

SHADE = (0, 0, 0, 255)
"""Outside of the area that counts; how opaque the layer is, the page says."""

SPLITS = {"train": (29, 111, 209), "validation": (255, 176, 0), "test": (156, 54, 181)}
"""The colours of the areas of scenes."""

RGBA = NDArray[np.uint8]
"""(h, w, 4) red, green, blue and opacity."""

Ids = NDArray[np.uint8]
"""(h, w) class ids, 255 where there is none."""


@dataclass(frozen=True)
class Tile:
    """The place of a tile: `row` and `col` count tiles of `step`."""

    step: int
    row: int
    col: int

    def window(self, height: int, width: int) -> Window | None:
        """Return the pixels of a scene in the tile; None if there are none."""
        side = TILE_PX * self.step
        part = Window(self.row * side, self.col * side, side, side).clip(height, width)
        return part if part.height and part.width else None


@dataclass(frozen=True)
class Look:
    """What is asked of a layer.

    Attributes
    ----------
    bands : tuple of int
        Of the image: the bands that are red, green and blue.
    stretch : bool
        Whether 8-bit images are stretched as others are.
    classes : frozenset of int or None
        The classes that are shown of labels and predictions; None: all.
    truth, predicted : int or None
        Errors with this label, or this prediction.
    score : str
        The band of scores: the id of a class, or `highest` or `margin`.
    of : str
        Errors of the `prediction`, or of the `draft`.
    """

    bands: tuple[int, ...] = ()
    stretch: bool = False
    classes: frozenset[int] | None = None
    truth: int | None = None
    predicted: int | None = None
    score: str = "margin"
    of: str = "prediction"


def draw(scene: ViewedScene, layer: str, tile: Tile, look: Look, memo: Memo) -> bytes | None:
    """Return a tile as PNG; None where the scene has no pixels.

    Raises
    ------
    UsageError
        There is no such layer or class.
    DataError
        A file cannot be read.
    """
    if layer not in LAYERS:
        raise UsageError(f"there is no layer {layer!r}; layers: {', '.join(LAYERS)}")
    if not 1 <= tile.step <= MOST_STEP:
        raise UsageError(f"a tile has a step from 1 to {MOST_STEP}, found {tile.step}")
    with scene.readers.turn:
        grid = scene.grid
        window = tile.window(grid.height, grid.width)
        return None if window is None else _encoded(LAYERS[layer](scene, window, tile.step, look, memo))


def draw_image(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return the pixels of an image; transparent where there are no data."""
    with scene.image() as image:
        bands = look.bands or ((0, 1, 2) if image.count >= 3 else (0, 0, 0))
        if len(bands) != 3 or not all(0 <= band < image.count for band in bands):
            raise UsageError(f"expected three bands from 0 to {image.count - 1}, found {bands}")
        as_is = image.dtype == np.uint8 and not look.stretch
        limits = None
        if not as_is:
            analyzed = scene.seen.output("analyze", None, "stats.json")
            key = ("contrast", scene.scene.id, scene.image_version, scene.version_of(_shown(analyzed)))
            limits = memo.get(key, lambda: contrast.limits(scene))
        pixels, valid = read_sample(image, window, step, (scene.scene.id, scene.image_version), scene.readers.samples)
    picture = contrast.stretched(pixels, bands, limits)
    opacity = np.where(contrast.opaque(valid, bands), np.uint8(255), np.uint8(0))
    return np.concatenate([picture, opacity[..., np.newaxis]], axis=-1)


def draw_labels(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return labels in the colours of their classes."""
    return _coloured(scene, label_ids(scene, window, step), look)


def draw_prediction(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return predictions in the colours of their classes."""
    return _coloured(scene, predicted_ids(scene, window, step), look)


def draw_draft(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return the draft in the colours of its classes."""
    return _coloured(scene, predicted_ids(scene, window, step, "draft"), look)


def draw_errors(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return where predictions differ from labels, in the area that counts."""
    truth, predicted = evaluated_ids(scene, window, step, look.of)
    wrong = (truth != NODATA) & (truth != predicted)
    picture = np.zeros((*truth.shape, 4), dtype=np.uint8)
    if look.truth is not None and look.predicted is not None:
        picture[(truth == look.truth) & (predicted == look.predicted)] = (*WRONG, 255)
    elif look.truth is not None:  # of one class: what was missed, and what was found in vain
        picture[wrong & (truth == look.truth)] = (*FALSE_NEGATIVE, 255)
        picture[wrong & (predicted == look.truth)] = (*FALSE_POSITIVE, 255)
    else:
        picture[wrong] = (*WRONG, 255)
    return picture


def draw_scores(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return scores from dark to bright; the margin between the two best classes is bright where it is small."""
    if scene.scores is None:
        raise UsageError("there are no scores: set predict.scores, and build")
    values, valid = _sample(scene, scene.scores, window, step)
    scores = values.astype(np.float32) / (255.0 if values.dtype == np.uint8 else 1.0)
    trained = [item["id"] for item in scene.classes if item["id"] != scene.null_id]
    if look.score == "margin":
        best = np.sort(np.nan_to_num(scores), axis=0)
        shown = 1 - (best[-1] - best[-2]) if len(best) > 1 else 1 - best[-1]
    elif look.score == "highest":
        shown = np.nan_to_num(scores).max(axis=0)
    elif look.score.isdecimal() and int(look.score) in trained and trained.index(int(look.score)) < len(scores):
        shown = np.nan_to_num(scores[trained.index(int(look.score))])
    else:
        raise UsageError(f"there are no scores of {look.score!r}; expected a class id of {trained}, margin or highest")
    picture: RGBA = RAMP[np.rint(shown.clip(0, 1) * 255).astype(np.uint8)]
    picture[~valid.all(axis=0)] = 0
    return picture


def draw_area(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return a shade over all that does not count."""
    picture = np.zeros((*_shape(window, step), 4), dtype=np.uint8)
    inside = area_mask(scene, window, step)
    if inside is not None:
        picture[~inside] = SHADE
    return picture


def draw_splits(scene: ViewedScene, window: Window, step: int, look: Look, memo: Memo) -> RGBA:
    """Return the areas of all scenes of the same image, in the colours of their splits."""
    picture = np.zeros((*_shape(window, step), 4), dtype=np.uint8)
    for split, color in SPLITS.items():
        for each in scene.beside:
            if each.scene.split == split:
                inside = area_mask(each, window, step)
                picture[... if inside is None else inside] = (*color, 255)
    return picture


def label_ids(scene: ViewedScene, window: Window, step: int) -> Ids:
    """Return the class ids of labels of pixels; 255 without a label."""
    with scene.labels() as labels:
        ids = np.array(rows_of(labels.read, window, step))  # type: ignore[attr-defined]  # it is of segmentation
    ids[ids == scene.null_id] = NODATA
    return ids


def predicted_ids(scene: ViewedScene, window: Window, step: int, of: str = "prediction") -> Ids:
    """Return the class ids of pixels that the model predicts, or the draft; 255 without a prediction."""
    shown = scene.mapped(of)
    if shown is None:
        missing = "is no draft: run `rvbuild draft`" if of == "draft" else "are no predictions: build the project"
        raise UsageError(f"there {missing}")
    values, valid = _sample(scene, shown, window, step)
    return np.where(valid[0], values[0], np.uint8(NODATA))


def evaluated_ids(scene: ViewedScene, window: Window, step: int, of: str = "prediction") -> tuple[Ids, Ids]:
    """Return class ids of labels, 255 where none counts, and of predictions, null where there is none."""
    truth, predicted = label_ids(scene, window, step), predicted_ids(scene, window, step, of)
    inside = area_mask(scene, window, step)
    if inside is not None:
        truth[~inside] = NODATA
    predicted[predicted == NODATA] = scene.null_id
    return truth, predicted


def area_mask(scene: ViewedScene, window: Window, step: int) -> NDArray[np.bool_] | None:
    """Return which pixels count; None if all do."""
    with scene.area() as area:
        return None if area is None else rows_of(area.mask, window, step)


def rows_of(read: Callable[[Window], NDArray[Any]], window: Window, step: int) -> NDArray[Any]:
    """Return a sample of a window from what reads windows (H, W): whole, or a row at a time if it is large."""
    if step == 1:
        return read(window)
    rows, cols = sampled(window, step)
    lines = [read(Window(row, window.col, 1, window.width))[0, cols - window.col] for row in rows.tolist()]
    return np.stack(lines)


LAYERS: Mapping[str, Callable[[ViewedScene, Window, int, Look, Memo], RGBA]] = {
    "image": draw_image,
    "labels": draw_labels,
    "prediction": draw_prediction,
    "draft": draw_draft,
    "errors": draw_errors,
    "scores": draw_scores,
    "area": draw_area,
    "splits": draw_splits,
}
"""What is shown as tiles. Of tasks that do not classify pixels, labels and predictions are shapes."""


def _coloured(scene: ViewedScene, ids: Ids, look: Look) -> RGBA:
    shown = [item["id"] for item in scene.classes if look.classes is None or item["id"] in look.classes]
    opacity = np.zeros(256, dtype=np.uint8)
    opacity[shown] = 255
    return np.concatenate([palette(scene.classes)[ids], opacity[ids][..., np.newaxis]], axis=-1)


def _sample(scene: ViewedScene, shown: Shown, window: Window, step: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    key = ("results", str(shown.path), scene.version_of(shown))
    with scene.readers.borrow(key, lambda: open_image([shown.path])) as source:
        return read_sample(source, window, step, key, scene.readers.samples)


def _shown(found: tuple[Any, Any] | None) -> Shown | None:
    return None if found is None else Shown(*found)


def _shape(window: Window, step: int) -> tuple[int, int]:
    return -(-window.height // step), -(-window.width // step)


def _ramp(stops: Sequence[tuple[int, int, int]]) -> RGBA:
    places = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), places, [stop[i] for stop in stops]) for i in range(3)]
    table: RGBA = np.rint(np.stack([*channels, np.full(256, 255.0)], axis=-1)).astype(np.uint8)
    return table


RAMP = _ramp([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)])
"""(256, 4) the colours of scores from 0 to 1, of even steps in lightness (the stops of matplotlib's magma)."""


def _encoded(picture: RGBA) -> bytes:
    """Return a picture as PNG, at the size of a tile."""
    height, width = picture.shape[:2]
    if (height, width) != (TILE_PX, TILE_PX):
        padded = np.zeros((TILE_PX, TILE_PX, 4), dtype=np.uint8)
        padded[:height, :width] = picture
        picture = padded
    buffer = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
