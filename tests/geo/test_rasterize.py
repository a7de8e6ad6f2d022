from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.geo.vector import rasterize
from rvbuild.geo.vector.rasterize import Burner
from rvbuild.geo.windows import Window, sliding

HEIGHT, WIDTH = 90, 110


def blobs(count: int, seed: int = 0, side: float = 30, corners: int = 7) -> list[shapely.Polygon]:
    """Return overlapping star-shaped polygons, some beyond the scene."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    made = []
    for _ in range(count):
        radii = rng.uniform(0.2, 1, corners) * side / 2
        center = rng.uniform(-10, WIDTH + 10, 2)
        ring = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, np.newaxis]
        made.append(shapely.Polygon(ring))
    return made


def whole(shapes: list[shapely.Polygon], values: list[int], all_touched: bool) -> np.ndarray:
    return rasterio.features.rasterize(
        zip(shapes, values, strict=True), out_shape=(HEIGHT, WIDTH), fill=9, all_touched=all_touched, dtype="uint8"
    )


@pytest.mark.parametrize("all_touched", [False, True])
@pytest.mark.parametrize("tile_px", [32, 512])
def test_windows_equal_the_burn_of_the_whole_scene(
    monkeypatch: pytest.MonkeyPatch, all_touched: bool, tile_px: int
) -> None:
    monkeypatch.setattr(rasterize, "TILE_PX", tile_px)
    shapes = blobs(200)
    values = [index % 7 for index in range(200)]
    expected = whole(shapes, values, all_touched)
    burner = Burner(shapes, values, height=HEIGHT, width=WIDTH, background=9, all_touched=all_touched)
    for window in sliding(HEIGHT, WIDTH, 17, 11):
        burned = burner.read(window, outside=8)
        part = window.clip(HEIGHT, WIDTH)
        np.testing.assert_array_equal(
            burned[part.slices_in(window)], expected[part.slices_in(Window(0, 0, HEIGHT, WIDTH))]
        )
        assert (burned == 8).sum() == 17 * 17 - part.height * part.width


def test_polygons_of_all_kinds_are_burnt_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterize, "TILE_PX", 32)
    plain = blobs(40)
    large = [shapely.segmentize(shape, 0.5) for shape in blobs(20, seed=1)]
    assert shapely.get_num_coordinates(large).min() > rasterize.KEPT_POINTS
    holed = [shape.difference(shape.centroid.buffer(4)) for shape in blobs(20, seed=2)]
    several = [
        shapely.MultiPolygon([shapely.box(x, x, x + 5, x + 9), shapely.box(x + 7, x, x + 9, 40)]) for x in (1, 8)
    ]
    shapes = [plain[i // 2] if i % 2 else [*large, *holed, *several][i // 2] for i in range(80)] + several
    values = [index % 7 for index in range(len(shapes))]
    burner = Burner(shapes, values, height=HEIGHT, width=WIDTH, background=9)
    for _ in range(2):
        burned = burner.read(Window(0, 0, HEIGHT, WIDTH), outside=8)
        np.testing.assert_array_equal(burned, whole(shapes, values, False))
        burner._tiles.clear()


halves = st.integers(-20, 2 * WIDTH + 20).map(lambda n: n / 2)
triangles = st.lists(st.tuples(halves, halves), min_size=3, max_size=3, unique=True)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(triangles, min_size=1, max_size=4), st.booleans())
def test_edges_through_pixel_centres_are_the_same_in_every_window(
    corners: list[list[tuple[float, float]]], all_touched: bool
) -> None:
    shapes = [polygon for ring in corners if (polygon := shapely.Polygon(ring)).area > 0]
    values = list(range(len(shapes)))
    options = {"height": HEIGHT, "width": WIDTH, "background": 9, "all_touched": all_touched}
    complete = Burner(shapes, values, **options).read(Window(0, 0, HEIGHT, WIDTH), outside=8)
    if not all_touched:
        np.testing.assert_array_equal(complete, whole(shapes, values, all_touched))
    burner = Burner(shapes, values, **options)
    for window in sliding(HEIGHT, WIDTH, 40, 23):
        part = window.clip(HEIGHT, WIDTH)
        np.testing.assert_array_equal(
            burner.read(window, outside=8)[part.slices_in(window)],
            complete[part.slices_in(Window(0, 0, HEIGHT, WIDTH))],
        )


def test_later_features_cover_earlier_ones() -> None:
    shapes = [shapely.box(0, 0, 50, 50), shapely.box(10, 10, 20, 20), shapely.box(0, 0, 15, 15)]
    burner = Burner(shapes, [1, 2, 3], height=HEIGHT, width=WIDTH, background=0)
    labels = burner.read(Window(0, 0, 60, 60), outside=0)
    assert (labels[0, 0], labels[16, 16], labels[12, 12], labels[30, 30], labels[55, 55]) == (3, 2, 3, 1, 0)


def test_no_features_are_all_background() -> None:
    burner = Burner([], [], height=HEIGHT, width=WIDTH, background=5)
    assert (burner.read(Window(0, 0, 10, 10), outside=8) == 5).all()
    assert (burner.read(Window(-20, 0, 10, 10), outside=8) == 8).all()


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterize, "TILE_PX", 16)
    monkeypatch.setattr(rasterize, "CACHE_BYTES", 4 * 16 * 16)
    shapes, values = blobs(20), [1] * 20
    burner = Burner(shapes, values, height=HEIGHT, width=WIDTH, background=9)
    np.testing.assert_array_equal(burner.read(Window(0, 0, HEIGHT, WIDTH), outside=8), whole(shapes, values, False))
    assert len(burner._tiles) == 4


def test_a_window_looks_at_the_features_around_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    burnt: list[int] = []
    plain = Burner._polygons
    monkeypatch.setattr(rasterize, "TILE_PX", 64)
    monkeypatch.setattr(Burner, "_polygons", lambda self, indices: burnt.extend(indices) or plain(self, indices))
    shapes = [shapely.box(col, row, col + 8, row + 8) for row in range(0, 1600, 16) for col in range(0, 1600, 16)]
    burner = Burner(shapes, [1] * len(shapes), height=1600, width=1600, background=0)
    assert burner.read(Window(704, 704, 64, 64), outside=0).sum() == 16 * 64
    assert len(burnt) <= 25 < len(shapes) == 10_000
    burnt.clear()
    for _ in range(3):  # far from the last: alone, then all of its tile, which is kept
        assert burner.read(Window(192, 256, 16, 16), outside=0).sum() == 64
        burner.read(Window(1500, 1500, 8, 8), outside=0)
    assert [burnt.count(index) for index in (12 * 100 + 16, 14 * 100 + 18)] == [2, 1]
    burnt.clear()
    burner.read(Window(1000, 1000, 8, 8), outside=0)
    burner.read(Window(1000, 1070, 8, 8), outside=0)  # beside the last: all of its tile, whose corner is (960, 1024)
    assert 61 * 100 + 66 in burnt
    monkeypatch.setattr(rasterize, "FEW_POINTS", 10)
    burner.read(Window(192, 832, 16, 16), outside=0)
    assert 14 * 100 + 54 in burnt


anywhere = st.builds(Window, st.integers(-9, HEIGHT), st.integers(-9, WIDTH), st.integers(1, 40), st.integers(1, 40))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(triangles, st.integers(0, 2), st.booleans()), min_size=1, max_size=12),
    st.lists(anywhere, min_size=1, max_size=8),
    st.sampled_from([0, 9, 2000]),
)
def test_windows_anywhere_equal_the_plain_burn_of_tiles(
    features: list[tuple[list[tuple[float, float]], int, bool]], windows: list[Window], few: int
) -> None:
    features = [feature for feature in features if shapely.Polygon(feature[0]).area > 0]
    tile_px = 16
    expected = np.full((HEIGHT + tile_px, WIDTH + tile_px), 9, dtype=np.uint8)
    for row in range(0, HEIGHT, tile_px):
        for col in range(0, WIDTH, tile_px):
            tile = np.full((tile_px, tile_px), 9, dtype=np.uint8)
            for ring, value, all_touched in features:
                rasterio.features.rasterize(
                    [(shapely.Polygon(ring), value)],
                    out=tile,
                    transform=Affine.translation(col, row),
                    all_touched=all_touched,
                )
            expected[row : row + tile_px, col : col + tile_px] = tile
    with mock.patch.multiple(rasterize, TILE_PX=tile_px, FEW_POINTS=few):
        burner = Burner(
            [shapely.Polygon(ring) for ring, _, _ in features],
            [value for _, value, _ in features],
            height=HEIGHT,
            width=WIDTH,
            background=9,
            all_touched=[all_touched for _, _, all_touched in features],
        )
        for window in windows:
            part = window.clip(HEIGHT, WIDTH)
            burned = burner.read(window, outside=8)[part.slices_in(window)]
            np.testing.assert_array_equal(burned, expected[part.slices_in(Window(0, 0, HEIGHT, WIDTH))])
