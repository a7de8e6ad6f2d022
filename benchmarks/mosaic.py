"""Mosaics: windows of a scene in four files beside the same windows of one file."""

from __future__ import annotations

from pathlib import Path

import rasterio
from affine import Affine
from rasterio.windows import Window as Part

from benchmarks.bar import Cost, Figure, cpu_seconds, interleaved
from benchmarks.scenes import TILE_PX, write_raster

SCENE_PX, WINDOW_PX, REPETITIONS = 4096, 300, 9


def run(folder: Path) -> list[Figure]:
    from rvbuild.geo.raster.mosaic_source import open_image
    from rvbuild.geo.windows import sliding
    from rvbuild.stages.threads.block_cache import block_cache

    folder.mkdir(parents=True)
    windows = sliding(SCENE_PX, SCENE_PX, WINDOW_PX, WINDOW_PX)
    figures = []
    for compress in ("none", "deflate"):
        whole = write_raster(folder / f"{compress}.tif", SCENE_PX, 3, 64, compress=compress)
        quarters = cut(whole)

        def read(paths: list[Path]) -> float:
            with open_image(paths) as source, block_cache(source, WINDOW_PX):
                source.read(windows[0])
                return cpu_seconds(lambda: [source.read(window) for window in windows])

        whole_s, quarters_s = interleaved(REPETITIONS, lambda w=whole: read([w]), lambda q=quarters: read(q))
        note = f"{len(windows)} windows of {WINDOW_PX} px, compress={compress}, one file {1000 * whole_s:.0f} ms"
        cost = Cost("window", quarters_s / len(windows), whole_s / len(windows))
        title = "windows from 4 files, speed beside one file"
        figures.append(Figure(title, whole_s / quarters_s, 0.8, "", False, note, cost))
    return figures


def cut(path: Path) -> list[Path]:
    """Write the quarters of a raster, tiled and compressed as it is."""
    quarters = []
    half = SCENE_PX // 2
    with rasterio.open(path) as source:
        for row in (0, half):
            for col in (0, half):
                quarter = path.with_name(f"{path.stem}_{row}_{col}.tif")
                place = source.transform * Affine.translation(col, row)
                tiles = {"tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX, "alpha": "unspecified"}
                profile = {**source.profile, **tiles, "width": half, "height": half, "transform": place}
                with rasterio.open(quarter, "w", **profile) as file:
                    file.write(source.read(window=Part(col, row, half, half)))
                quarters.append(quarter)
    return quarters
