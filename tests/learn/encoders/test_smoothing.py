"""Features that are smoothed over neighbouring cells."""

from __future__ import annotations

import numpy as np

from rvbuild.learn.encoders.pooling import boxed
from rvbuild.learn.encoders.smoothing import BOX, Smoothed


class _Maps:
    names = ("fine", "as coarse as a cell", "coarse")
    sides_px = (2, 4, 16)
    multiple_px, margin_px = 32, 64

    def __call__(self, image):
        return np.stack([image[0, ::4, ::4], image[0, ::4, ::4] * 2, image[1, ::4, ::4]])


def test_all_features_are_smoothed_and_fine_ones_come_as_they_are_too():
    encoder = Smoothed(_Maps(), 4)
    assert encoder.names == ("fine", "fine, smoothed", "as coarse as a cell, smoothed", "coarse, smoothed")
    assert encoder.sides_px == (2, 4, 4, 16)
    assert encoder.margin_px == 64 + 16
    image = np.random.default_rng(0).random((2, 64, 96), dtype=np.float32)
    maps = encoder(image)
    assert maps.shape == (4, 16, 24)
    assert maps.dtype == np.float32
    assert (maps[0] == image[0, ::4, ::4]).all()
    np.testing.assert_allclose(maps[2], maps[1] * 2, rtol=1e-5)


def test_twice_a_box_is_a_triangle_of_two_cells_spread():
    plane = np.zeros((21, 21), dtype=np.float32)
    plane[10, 10] = 1
    triangle = boxed(boxed(plane, BOX), BOX)
    along = triangle.sum(axis=0)
    np.testing.assert_allclose(along[5:16] * BOX**2, [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0], atol=1e-6)
    np.testing.assert_allclose(((np.arange(21) - 10) ** 2 * along).sum(), 4, rtol=1e-6)
    np.testing.assert_allclose(triangle, triangle.T)


def test_a_constant_stays_what_it_is_up_to_the_edges():
    np.testing.assert_allclose(boxed(np.full((3, 9), 7, dtype=np.float32), 5), 7, rtol=1e-6)
