"""The files of suggestions: a list in pixels, and polygons to digitise in for every GIS.

A GeoPackage is in the CRS of the scenes, a GeoJSON in longitude and latitude, or in map coordinates without a CRS. If
scenes have different CRS, each has files of its own: `windows.gpkg` those of the first scene, `windows_EPSG_32633.gpkg`
others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine

from rvbuild.geo.grid import Grid, crs_name, same_crs
from rvbuild.geo.windows import Window
from rvbuild.geo.write.qgis import write_outline_style
from rvbuild.geo.write.vectors.features import write_features
from rvbuild.stages.suggest.windows import Place

SUGGESTIONS = "suggestions.json"

COLOR = "#ff9d00"
"""Of the outlines of windows in QGIS."""

FIELDS: Mapping[str, type] = {
    "id": str,
    "rank": int,
    "scene": str,
    "score": float,
    "reason": str,
    "diversity": float,
    "uncertainty": float,
    "class": str,
    "row": int,
    "col": int,
    "height": int,
    "width": int,
}
"""The attributes of polygons. The last four are pixels of the scene."""


class Suggestion(NamedTuple):
    """A window to label."""

    place: Place
    rank: int
    """From 1."""
    score: float
    reason: str
    """In words, with figures."""
    uncertainty: float | None
    """The share of the pixels that the draft expects to be wrong; None without a draft."""
    diversity: float | None
    """The distance to what is labelled; None if nothing is."""
    grows: str | None
    """The class whose labels would grow most; None without a draft."""

    def window(self, grid: Grid) -> Window:
        """Return its part inside the scene."""
        place = self.place
        return Window(place.row, place.col, place.side, place.side).clip(grid.height, grid.width)

    def properties(self, grid: Grid) -> dict[str, object]:
        """Return the values of `FIELDS`."""
        window = self.window(grid)
        return {
            "id": f"{self.place.number():016x}",
            "rank": self.rank,
            "scene": self.place.scene,
            "score": round(self.score, 4),
            "reason": self.reason,
            "diversity": None if self.diversity is None else round(self.diversity, 3),
            "uncertainty": None if self.uncertainty is None else round(self.uncertainty, 4),
            "class": self.grows,
            "row": window.row,
            "col": window.col,
            "height": window.height,
            "width": window.width,
        }


def write(folder: Path, suggestions: Sequence[Suggestion], grids: Mapping[str, Grid]) -> None:
    """Write suggestions.

    Parameters
    ----------
    folder
        Receives `suggestions.json`, and with suggestions `windows.gpkg` and `windows.geojson`.
    suggestions
        In the order of their ranks.
    grids
        Of the scenes.
    """
    windows = [suggestion.properties(grids[suggestion.place.scene]) for suggestion in suggestions]
    lines = ",\n".join(json.dumps(window, ensure_ascii=False, allow_nan=False) for window in windows)
    (folder / SUGGESTIONS).write_text(f'{{"windows":[\n{lines}\n]}}\n', encoding="utf-8", newline="\n")
    for stem, scenes in _files({s.place.scene: grids[s.place.scene] for s in suggestions}).items():
        chosen = [s for s in suggestions if s.place.scene in scenes]
        crs = grids[scenes[0]].crs
        shapes = np.array([_polygon(s, grids[s.place.scene]) for s in chosen], dtype=object)
        properties = [s.properties(grids[s.place.scene]) for s in chosen]
        for suffix in (".gpkg", ".geojson"):
            # The polygons are in map coordinates: a unit of the CRS is the pixel of this grid.
            write_features(folder / f"{stem}{suffix}", shapes, Grid(1, 1, Affine.identity(), crs), properties, FIELDS)
        write_outline_style(folder / f"{stem}.gpkg", COLOR)


def _polygon(suggestion: Suggestion, grid: Grid) -> shapely.Polygon:
    """Return a window in map coordinates."""
    window = suggestion.window(grid)
    x = np.array([window.col, window.col_stop, window.col_stop, window.col], dtype=np.float64)
    y = np.array([window.row, window.row, window.row_stop, window.row_stop], dtype=np.float64)
    return shapely.Polygon(np.stack(grid.to_map(x, y), axis=1))


def _files(grids: Mapping[str, Grid]) -> dict[str, list[str]]:
    """Return the scenes of each file, by its stem: those of one CRS."""
    groups: list[list[str]] = []
    for scene in sorted(grids):
        group = next((group for group in groups if same_crs(grids[group[0]].crs, grids[scene].crs)), None)
        if group is None:
            groups.append([scene])
        else:
            group.append(scene)
    files: dict[str, list[str]] = {}
    for group in groups:
        stem = (
            f"windows_{re.sub(r'[^A-Za-z0-9]+', '_', crs_name(grids[group[0]].crs)).strip('_')}" if files else "windows"
        )
        while stem in files:  # two CRS without a code may have one name
            stem += "_"
        files[stem] = group
    return files
