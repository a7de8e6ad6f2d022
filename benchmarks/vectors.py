"""Vector labels: rasterizing one window among many polygons."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.bar import Cost, Figure, cpu_seconds

SCENE_PX, POLYGONS, WINDOW_PX = 20_000, 100_000, 300
"""A building of about 20 pixels across, 32 of which lie in a window on average."""


def run(folder: Path) -> list[Figure]:
    from rvbuild.geo.vector import rasterize
    from rvbuild.geo.vector.rasterize import Burner
    from rvbuild.geo.windows import Window, sliding

    rng = np.random.default_rng(0)
    burner = Burner(buildings(rng), [1] * POLYGONS, height=SCENE_PX, width=SCENE_PX, background=0)
    burner.read(Window(0, 0, 1, 1), outside=0)
    chips = sliding(SCENE_PX, SCENE_PX, WINDOW_PX, WINDOW_PX)[:400]
    in_turn = statistics.fmean(cpu_seconds(lambda w=window: burner.read(w, outside=0)) for window in chips)
    places = rng.integers(SCENE_PX // 4, SCENE_PX - WINDOW_PX, (200, 2)).tolist()
    windows = [Window(row, col, WINDOW_PX, WINDOW_PX) for row, col in places]
    with mock.patch.object(rasterize, "CACHE_BYTES", 0):
        anywhere = statistics.median(cpu_seconds(lambda w=window: burner.read(w, outside=0)) for window in windows)
    note = f"{POLYGONS} polygons, {WINDOW_PX} px windows"
    return [
        Figure(
            "rasterize, a window of a scene read in turn", in_turn * 1000, 2, "ms", True, note, Cost("window", in_turn)
        ),
        Figure(
            "rasterize, a window anywhere, nothing kept", anywhere * 1000, 2, "ms", True, note, Cost("window", anywhere)
        ),
    ]


def buildings(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return (N,) quadrilaterals and L-shapes at random places and angles, in pixel coordinates."""
    import shapely
    import shapely.affinity

    shape = shapely.Polygon([(0, 0), (24, 0), (24, 10), (12, 10), (12, 18), (0, 18)])
    made = np.empty(POLYGONS, dtype=object)
    points = shapely.get_coordinates(shape)
    angles, places = rng.uniform(0, 2 * np.pi, POLYGONS), rng.uniform(0, SCENE_PX, (POLYGONS, 2))
    for index, (angle, place) in enumerate(zip(angles, places, strict=True)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        made[index] = shapely.Polygon(points @ turn.T + place)
    return made
