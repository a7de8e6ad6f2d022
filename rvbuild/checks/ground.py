"""The area that each scene covers, and overlaps between scenes of different splits.

Scores on areas that the model was trained on do not measure its quality.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.grid import Grid, crs_name, reproject

Ground = dict[str, Any]

MARGIN_PX = 1.0
"""Margin that is removed along the border, so that neighbours do not overlap despite floating-point noise."""

LEAST = 0.001
"""Minimum overlap, relative to the smaller of two scenes."""

MOST = 20
"""Largest number of scenes whose overlap with another is measured; if there are more, the largest scenes are used."""

_PIECES = 8
"""Number of parts of an edge as long as the scene: a straight line on one map is curved on another."""

_COMMON = CRS.from_epsg(4326)


def ground_of(grid: Grid, aoi: Aoi | None, files: Sequence[Path], reach_px: float = 0.0) -> Ground | None:
    """Return the area that a scene covers, as JSON data; None if it is unknown or empty.

    Parameters
    ----------
    grid, aoi
        Grid of the scene, and its area of interest.
    files
        Files of its image. Without any georeference, only scenes with the same files can overlap.
    reach_px
        Distance by which chips may extend beyond the area of interest, in pixels.

    Returns
    -------
    dict
        `space`: the coordinate system; `shape`: one or more polygons, as hexadecimal WKB.
    """
    scene = shapely.box(0, 0, grid.width, grid.height)
    shape = scene
    if aoi is not None:
        shape = shapely.intersection(shapely.simplify(aoi.outline(), MARGIN_PX / 4), scene)
        if reach_px:
            shape = shapely.intersection(shapely.buffer(shape, reach_px, join_style="mitre"), scene)
    shape = shapely.buffer(shape, -MARGIN_PX, join_style="mitre")
    if shape.is_empty:
        return None
    shape = shapely.segmentize(shape, max(grid.height, grid.width) / _PIECES)
    x, y = grid.to_map(*shapely.get_coordinates(shape).T)
    space = crs_name(grid.crs)
    if grid.crs is None and (abs(grid.transform.a), abs(grid.transform.e)) == (1, 1):
        space = f"pixels of {', '.join(map(str, files))}"
    elif grid.crs is not None:
        try:
            x, y = reproject(files[0], grid.crs, _COMMON, x, y)
            space = "degrees"
        except DataError:
            pass  # a local CRS, which other scenes may share
        if space == "degrees" and np.ptp(x) > 180:
            x = np.where(x < 0, x + 360, x)
    placed = shapely.set_coordinates(shape, np.stack([x, y], axis=1))
    area = shapely.area(placed)
    return {"space": space, "shape": shapely.to_wkb(placed, hex=True)} if 0 < area < np.inf else None


def shared(scenes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the overlaps of scenes of a later split with an earlier one; called in a worker.

    Parameters
    ----------
    scenes
        `id`, `base`, `split` and `ground` of each. Parts of one scene do not overlap and are not compared.

    Returns
    -------
    list of dict
        `scene`, `split`: a validation or test scene, and the earlier split; `others`: the ids of the overlapping
        scenes, largest overlap first; `share`: the overlapping fraction of the scene, between 0 and 1.
    """
    by_space: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for scene in scenes:
        by_space[scene["ground"]["space"]].append(scene)
    overlaps: list[dict[str, Any]] = []
    for group in by_space.values():
        shapes = shapely.make_valid(shapely.from_wkb([scene["ground"]["shape"] for scene in group]))
        for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
            overlaps += _shared(group, shapes, earlier, later)
    return overlaps


def _shared(scenes: Sequence[Mapping[str, Any]], shapes: Any, earlier: str, later: str) -> Iterator[dict[str, Any]]:
    """Yield the overlaps of each scene of one split with those of another."""
    before = np.flatnonzero([scene["split"] == earlier for scene in scenes])
    after = np.flatnonzero([scene["split"] == later for scene in scenes])
    if not len(before) or not len(after):
        return
    pairs = shapely.STRtree(shapes[before]).query(shapes[after], predicate="intersects")
    partners: defaultdict[int, list[int]] = defaultdict(list)
    for index_later, index_earlier in zip(after[pairs[0]].tolist(), before[pairs[1]].tolist(), strict=True):
        if scenes[index_later]["base"] != scenes[index_earlier]["base"]:
            partners[index_later].append(index_earlier)
    for index_later, candidates in sorted(partners.items()):
        candidates_kept = np.array(candidates)
        if len(candidates_kept) > MOST:
            candidates_kept = candidates_kept[np.argsort(-shapely.area(shapes[candidates_kept]), kind="stable")[:MOST]]
        common = shapely.intersection(shapes[index_later], shapes[candidates_kept])
        areas = shapely.area(common)
        enough = areas >= LEAST * np.minimum(shapely.area(shapes[candidates_kept]), shapely.area(shapes[index_later]))
        if not enough.any():
            continue
        order = np.argsort(-areas[enough], kind="stable")
        share = shapely.area(shapely.union_all(common[enough])) / shapely.area(shapes[index_later])
        yield {
            "scene": scenes[index_later]["id"],
            "split": earlier,
            "others": [scenes[index]["id"] for index in candidates_kept[enough][order].tolist()],
            "share": min(1.0, float(share)),
        }
