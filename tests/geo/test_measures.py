"""Areas, perimeters and mean scores of predicted polygons."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.geo.write.vectors import measures
from rvbuild.geo.write.vectors.measures import mean_scores, sizes

A, E2 = 6_378_137.0, 0.006_694_379_990_141_33


def zone_m2(south: float, north: float, width_degrees: float) -> float:
    """Return the area between two parallels and two meridians of WGS 84 (Snyder 1987, equation 3-12)."""
    e = math.sqrt(E2)

    def q(latitude: float) -> float:
        sine = math.sin(math.radians(latitude))
        log = math.log((1 - e * sine) / (1 + e * sine)) / (2 * e)
        return (1 - E2) * (sine / (1 - E2 * sine**2) - log)

    return A**2 / 2 * (q(north) - q(south)) * math.radians(width_degrees)


def polygons(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([shapely.box(*box) for box in boxes], dtype=object)


@pytest.mark.parametrize("west", [10.0, 179.5, -180.2])
def test_degrees(west: float) -> None:
    grid = Grid(100, 100, Affine(0.01, 0, west, 0, -0.01, 61.0), CRS.from_epsg(4326))
    measured = sizes(polygons((0, 0, 100, 100), (40, 0, 60, 50)), grid)
    np.testing.assert_allclose(measured["area_m2"], [zone_m2(60, 61, 1), zone_m2(60.5, 61, 0.2)], rtol=1e-7)
    north, south = (
        math.radians(1) * math.cos(math.radians(lat)) * A / math.sqrt(1 - E2 * math.sin(math.radians(lat)) ** 2)
        for lat in (61, 60)
    )
    meridian = 111_422  # of one degree at 60.5 degrees north
    assert measured["perimeter_m"][0] == pytest.approx(north + south + 2 * meridian, rel=2e-5)


def test_a_projection_that_enlarges() -> None:
    """A square of Web Mercator at 60 degrees north is half as long on the ground as in its coordinates."""
    y = A * math.log(math.tan(math.pi / 4 + math.radians(60) / 2))
    grid = Grid(100, 100, Affine(1, 0, 1e6, 0, -1, y + 50), CRS.from_epsg(3857))
    measured = sizes(polygons((0, 0, 100, 100)), grid)
    assert measured["perimeter_m"][0] == pytest.approx(200, rel=5e-3)
    assert measured["area_m2"][0] == pytest.approx(2500, rel=1e-2)


def test_utm_and_holes() -> None:
    grid = Grid(100, 100, Affine(0.5, 0, 500_000, 0, -0.5, 5_500_000), CRS.from_epsg(32633))
    ring = shapely.box(0, 0, 80, 80).difference(shapely.box(20, 20, 40, 40))
    measured = sizes(np.array([ring], dtype=object), grid)
    assert measured["area_m2"][0] == pytest.approx((40**2 - 10**2) / 0.9996**2, rel=1e-5)
    assert measured["perimeter_m"][0] == pytest.approx(200 / 0.9996, rel=1e-5)


def test_without_a_crs() -> None:
    measured = sizes(polygons((0, 0, 3, 5)), Grid(9, 9, Affine.identity(), None))
    assert {name: values.tolist() for name, values in measured.items()} == {"area_px": [15.0], "perimeter_px": [16.0]}
    none = sizes(polygons(), Grid(9, 9, Affine(1, 0, 0, 0, -1, 0), CRS.from_epsg(32633)))
    assert {name: values.tolist() for name, values in none.items()} == {"area_m2": [], "perimeter_m": []}


@pytest.mark.parametrize("rows", [3, 1024])
def test_mean_scores(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(measures, "_BAND_ROWS", rows)
    scores = np.random.default_rng(0).uniform(size=(10, 12))
    scores[2, 2] = np.nan

    def read(window: Window) -> np.ndarray:
        return scores[window.row : window.row_stop, window.col : window.col_stop]

    means = mean_scores(polygons((0, 0, 5, 7), (6, 2, 12, 10), (0.1, 9.1, 0.3, 9.3)), 10, 12, read)
    np.testing.assert_allclose(means[:2], [np.nanmean(scores[:7, :5]), scores[2:10, 6:12].mean()])
    assert np.isnan(means[2])
