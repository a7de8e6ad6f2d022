"""Data of the shape of a public data set, made by a seeded generator: `python -m rvbuild.data.samples potsdam DIR`.

They let a project file be tried before the real data are there. What they show is invented; folders, names, bands,
colour codes, CRS and pixel size are those of the data set, and imagery follows the labels, so that a model can learn.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

POTSDAM_SCENES = tuple(
    f"{row}_{col}"
    for row, cols in {2: (10, 13), 3: (10, 13), 4: (10, 13), 5: (10, 13), 6: (7, 13), 7: (7, 13)}.items()
    for col in range(*cols)
)
"""The labelled tiles of ISPRS Potsdam: row and column of each in the mosaic of the city."""

_CAR, _BUILDING, _LOW_VEGETATION, _TREE, _IMPERVIOUS, _CLUTTER = range(6)

_COLORS = np.array(
    [(255, 255, 0), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 255), (255, 0, 0)], dtype=np.uint8
)
"""(6, 3) red, green, blue of the classes in the label files."""

_BRIGHTNESS = np.array(
    [
        (60, 90, 110, 210),
        (70, 160, 110, 95),
        (150, 105, 125, 80),
        (185, 55, 80, 55),
        (90, 130, 130, 135),
        (125, 70, 40, 30),
    ],
    dtype=np.float32,
)
"""(6, 4) mean infrared, red, green, blue of the classes in the imagery."""

_NOISE = 12.0
_RES_M = 0.05
_EAST_M, _NORTH_M = 366_000.0, 5_810_000.0
_FULL_PX = 1200
"""From this size on, things have their natural size; in smaller scenes they shrink with the scene."""

_BAND_ROWS = 256


def make_potsdam(
    folder: Path, *, size_px: int = 6000, scenes: Sequence[str] = POTSDAM_SCENES, seed: int = 0
) -> list[tuple[Path, Path]]:
    """Write imagery and labels of tiles in the layout of ISPRS Potsdam, and return (image, labels) of each.

    Parameters
    ----------
    folder
        Gets `4_Ortho_RGBIR/` and `5_Labels_for_participants/`.
    size_px
        Side of a tile; 6000 in the real data.
    scenes
        Tile ids, `row_column`.
    seed
        Other seeds give other cities. Same seed, same bytes.
    """
    images, labels = folder / "4_Ortho_RGBIR", folder / "5_Labels_for_participants"
    for directory in (images, labels):
        directory.mkdir(parents=True, exist_ok=True)
    paths: list[tuple[Path, Path]] = []
    for scene in scenes:
        row, col = (int(part) for part in scene.split("_"))
        rng = np.random.default_rng([seed, row, col])
        side_m = size_px * _RES_M
        transform = Affine(_RES_M, 0, _EAST_M + col * side_m, 0, -_RES_M, _NORTH_M - row * side_m)
        classes = _draw_classes(rng, size_px)
        image_path = images / f"top_potsdam_{scene}_RGBIR.tif"
        label_path = labels / f"top_potsdam_{scene}_label.tif"
        _write_labels(label_path, classes, transform)
        _write_image(image_path, classes, transform, rng)
        paths.append((image_path, label_path))
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rvbuild.data.samples", description="Make sample data to try a project."
    )
    parser.add_argument("dataset", choices=["potsdam"], help="the data set to imitate")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write the data")
    parser.add_argument("--size-px", type=_positive, default=6000, metavar="N", help="side of a tile (6000)")
    parser.add_argument(
        "--scenes",
        type=_tile_ids,
        default=list(POTSDAM_SCENES),
        metavar="2_10,2_11",
        help="tiles (all 24 labelled ones)",
    )
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other data (0)")
    chosen = parser.parse_args(arguments)
    tiles = make_potsdam(chosen.folder, size_px=chosen.size_px, scenes=chosen.scenes, seed=chosen.seed)
    print(f"{len(tiles)} tiles of {chosen.size_px} x {chosen.size_px} px in {chosen.folder}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {value}")
    return value


def _tile_ids(text: str) -> list[str]:
    ids = [part.strip() for part in text.split(",") if part.strip()]
    for tile in ids:
        parts = tile.split("_")
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise argparse.ArgumentTypeError(f'expected tile ids like 2_10, found "{tile}"')
    return ids


def _draw_classes(rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    """Return an invented city: (size_px, size_px) uint8 class ids."""
    scale = min(1.0, size_px / _FULL_PX)
    plots = (size_px / (_FULL_PX * scale)) ** 2
    shapes: list[tuple[Any, int]] = []

    def scatter(class_id: int, per_plot: int, length_px: tuple[int, int], aspect: float, corners: int) -> None:
        for _ in range(max(1, round(per_plot * plots))):
            center = rng.uniform(0, size_px, 2)
            length = max(2.0, rng.uniform(*length_px) * scale)
            ring = _outline(rng, center, length, max(2.0, length * aspect), corners)
            shapes.append(({"type": "Polygon", "coordinates": [ring]}, class_id))

    scatter(_LOW_VEGETATION, 7, (300, 600), 0.7, 9)
    scatter(_CLUTTER, 3, (120, 220), 0.8, 7)
    scatter(_BUILDING, 6, (180, 380), 0.6, 4)
    scatter(_TREE, 14, (60, 180), 0.9, 11)
    scatter(_CAR, 14, (80, 100), 0.45, 4)
    drawn: NDArray[np.uint8] = rasterio.features.rasterize(
        shapes, out_shape=(size_px, size_px), fill=_IMPERVIOUS, dtype="uint8"
    )
    return drawn


def _outline(
    rng: np.random.Generator, center: NDArray[np.float64], length: float, breadth: float, corners: int
) -> list[tuple[float, float]]:
    """Return a closed ring: a turned rectangle for 4 corners, else an uneven ellipse."""
    turn = rng.uniform(0, math.pi)
    if corners == 4:
        local = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64)
    else:
        angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
        local = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.75, 1.15, (corners, 1))
    local *= (length / 2, breadth / 2)
    x = center[0] + local[:, 0] * math.cos(turn) - local[:, 1] * math.sin(turn)
    y = center[1] + local[:, 0] * math.sin(turn) + local[:, 1] * math.cos(turn)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    return [*points, points[0]]


def _profile(size_px: int, transform: Affine, count: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": size_px,
        "width": size_px,
        "count": count,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": transform,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "photometric": "rgb",
    }


def _write_labels(path: Path, classes: NDArray[np.uint8], transform: Affine) -> None:
    with rasterio.open(path, "w", **_profile(len(classes), transform, 3)) as file:
        for row, rows in _bands(classes):
            file.write(np.moveaxis(_COLORS[rows], -1, 0), window=RasterioWindow(0, row, rows.shape[1], len(rows)))


def _write_image(path: Path, classes: NDArray[np.uint8], transform: Affine, rng: np.random.Generator) -> None:
    shade = rng.normal(1.0, 0.03, (4, 1, 1)).astype(np.float32)
    # The fourth band is a colour like the others, not the opacity for which GeoTIFF takes it by default.
    with rasterio.open(path, "w", alpha="unspecified", **_profile(len(classes), transform, 4)) as file:
        for row, rows in _bands(classes):
            noise = rng.standard_normal((4, *rows.shape), dtype=np.float32) * np.float32(_NOISE)
            image = np.moveaxis(_BRIGHTNESS[rows], -1, 0) * shade + noise
            pixels = np.rint(image).clip(1, 255).astype(np.uint8)
            file.write(pixels, window=RasterioWindow(0, row, rows.shape[1], len(rows)))


def _bands(classes: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.uint8]]]:
    return [(row, classes[row : row + _BAND_ROWS]) for row in range(0, len(classes), _BAND_ROWS)]


if __name__ == "__main__":
    main()
