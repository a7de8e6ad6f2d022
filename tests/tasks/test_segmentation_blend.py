from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.geo.windows import Window, sliding
from rvbuild.tasks.segmentation import blend as segmentation_blend
from rvbuild.tasks.segmentation.blend import Blender, cosine_weights, owned


class Blocks:
    """A sink that puts blocks together and insists on their order."""

    def __init__(self, outputs: int, height: int, width: int) -> None:
        self.scores = np.full((outputs, height, width), np.nan, dtype=np.float32)
        self.known = np.zeros((height, width), dtype=bool)
        self.next, self.col, self.rows = 0, 0, 0

    def __call__(self, row: int, col: int, scores: np.ndarray, known: np.ndarray) -> None:
        assert (row, col) == (self.next, self.col)
        height, width = known.shape
        assert col == 0 or height == self.rows
        here = np.s_[row : row + height, col : col + width]
        assert np.isnan(self.scores[:, *here]).all()
        self.scores[:, *here], self.known[here] = scores, known
        self.rows, self.col = height, col + width
        if self.col == self.known.shape[1]:
            self.next, self.col = row + height, 0


def predictions(windows: list[Window], outputs: int, seed: int) -> dict[Window, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    made = {}
    for window in windows:
        scores = random.random((outputs, window.height, window.width), dtype=np.float32)
        made[window] = (scores / scores.sum(axis=0), np.ones((window.height, window.width), dtype=bool))
    return made


def blend(
    height: int, width: int, size: int, stride: int, method: str, made: dict[Window, Any], outputs: int = 3
) -> Blocks:
    rows = Blocks(outputs, height, width)
    blender = Blender(height, width, outputs, size, stride, method, rows)
    for window, (scores, keep) in made.items():
        blender.add(window, scores, keep)
    blender.finish()
    assert rows.next == height
    return rows


def by_hand(
    height: int, width: int, size: int, method: str, made: dict[Window, Any], outputs: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Blend pixel by pixel in float64."""
    scores, known = np.zeros((outputs, height, width)), np.zeros((height, width), dtype=bool)
    for row in range(height):
        for col in range(width):
            total, weights, nearest = np.zeros(outputs), 0.0, None
            for window, (probabilities, keep) in made.items():
                r, c = row - window.row, col - window.col
                if not (0 <= r < size and 0 <= c < size):
                    continue
                value = probabilities[:, r, c].astype(np.float64)
                if method == "none":
                    distance = (2 * r + 1 - size) ** 2 + (2 * c + 1 - size) ** 2
                    if nearest is None or distance < nearest:
                        nearest, total, weights = distance, value, 1.0
                        known[row, col] = keep[r, c]
                    continue
                line = [np.sin(np.pi * (i + 0.5) / size) ** 2 for i in (r, c)]
                weight = line[0] * line[1] if method == "cosine" else 1.0
                total, weights = total + weight * value, weights + weight
                known[row, col] |= keep[r, c]
            if known[row, col]:
                scores[:, row, col] = total / weights
    return scores, known


@pytest.mark.parametrize("method", ["none", "mean", "cosine"])
@pytest.mark.parametrize(
    ("height", "width", "size", "stride"),
    [(20, 23, 8, 4), (20, 23, 8, 3), (17, 9, 8, 8), (5, 30, 8, 5), (5, 6, 8, 8), (24, 16, 8, 8), (23, 19, 7, 6)],
)
def test_equals_blending_by_hand(method: str, height: int, width: int, size: int, stride: int) -> None:
    made = predictions(sliding(height, width, size, stride), 3, seed=height)

    blended = blend(height, width, size, stride, method, made)

    scores, known = by_hand(height, width, size, method, made)
    assert known.all()
    assert blended.known.all()
    np.testing.assert_allclose(blended.scores, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "cosine"])
def test_hundreds_of_overlaps_are_no_trouble(method: str) -> None:
    windows = sliding(36, 36, 18, 1)
    scores = np.full((3, 18, 18), [[[0.2]], [[0.7]], [[0.1]]], dtype=np.float32)
    blended = blend(36, 36, 18, 1, method, {window: (scores, np.ones((18, 18), bool)) for window in windows})
    np.testing.assert_allclose(blended.scores, np.broadcast_to(scores[:, :1, :1], (3, 36, 36)), rtol=1e-5)


@pytest.mark.parametrize("method", ["none", "mean", "cosine"])
def test_pixels_that_are_not_kept_are_not_predicted(method: str) -> None:
    windows = sliding(20, 20, 8, 4)
    inside = np.random.default_rng(3).random((32, 32)) > 0.4
    made = {}
    for window, (scores, _) in predictions(windows, 3, seed=1).items():
        made[window] = scores, inside[window.row : window.row + 8, window.col : window.col + 8]

    blended = blend(20, 20, 8, 4, method, made)

    assert (blended.known == inside[:20, :20]).all()
    assert (blended.scores[:, ~blended.known] == 0).all()
    np.testing.assert_allclose(blended.scores, by_hand(20, 20, 8, method, made)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["none", "mean", "cosine"])
def test_windows_may_be_left_out(method: str) -> None:
    """Whole rows of windows, at the start, in the middle and at the end."""
    windows = [w for w in sliding(60, 20, 8, 4) if w.row in (8, 12, 40) and w.col != 4]
    made = predictions(windows, 3, seed=2)

    blended = blend(60, 20, 8, 4, method, made)

    covered = np.zeros((60, 20), dtype=bool)
    for window in windows:
        covered[window.row : window.row + 8, window.col : window.col + 8] = True
    if method == "none":
        # Only pixels whose nearest centre, of the whole grid, is that of a window that was not left out.
        assert (blended.known & ~covered).sum() == 0
        assert blended.known[8:10].sum() == 0
        assert blended.known[12, 10:].all()
    else:
        assert (blended.known == covered).all()
        np.testing.assert_allclose(blended.scores, by_hand(60, 20, 8, method, made)[0], rtol=1e-5, atol=1e-6)


def test_without_any_window_all_rows_come_and_nothing_is_known() -> None:
    blended = blend(30, 10, 8, 8, "mean", {})
    assert not blended.known.any()
    assert (blended.scores == 0).all()


def test_windows_out_of_order_are_refused() -> None:
    blender = Blender(20, 20, 1, 8, 8, "mean", Blocks(1, 20, 20))
    part = np.ones((1, 8, 8), dtype=np.float32), np.ones((8, 8), dtype=bool)
    blender.add(Window(8, 0, 8, 8), *part)
    with pytest.raises(ValueError, match="row-major"):
        blender.add(Window(0, 0, 8, 8), *part)


@pytest.mark.parametrize("method", ["none", "mean", "cosine"])
def test_sums_in_a_file_are_those_in_memory(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    made = predictions(sliding(40, 1100, 16, 7), 3, seed=5)
    left_out = {window: value for window, value in made.items() if not 7 <= window.row <= 14}
    for some in (made, left_out):
        with monkeypatch.context() as patch:
            expected = blend(40, 1100, 16, 7, method, some)
            patch.setattr("rvbuild.geo.write.columns.IN_MEMORY_BYTES", 0)
            found = blend(40, 1100, 16, 7, method, some)
        assert found.scores.tobytes() == expected.scores.tobytes()
        assert found.known.tobytes() == expected.known.tobytes()


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = predictions(sliding(33, 21, 8, 4), 3, seed=5)
    whole = blend(33, 21, 8, 4, "cosine", made)
    monkeypatch.setattr(segmentation_blend, "BLOCK_PX", 21)
    row_by_row = blend(33, 21, 8, 4, "cosine", made)
    assert (whole.scores == row_by_row.scores).all()


def test_the_caller_keeps_its_arrays() -> None:
    made = predictions(sliding(8, 8, 8, 8), 3, seed=5)
    before = {window: scores.copy() for window, (scores, _) in made.items()}
    blend(8, 8, 8, 8, "none", made)
    blend(8, 8, 8, 8, "cosine", made)
    assert all((before[window] == scores).all() for window, (scores, _) in made.items())


def test_cosine_weights_are_positive_and_symmetric() -> None:
    weights = cosine_weights(300)
    assert weights.dtype == np.float32
    assert (weights > 0).all()
    assert weights.max() <= 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-4)
    np.testing.assert_allclose(weights, weights.T)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_every_pixel_has_one_owner(length: int, size: int, data: st.DataObject) -> None:
    """The nearest centre, counted pixel by pixel."""
    stride = data.draw(st.integers(1, size))
    starts = [window.col for window in sliding(1, length, size, stride)]
    owners = np.full(length, -1)
    for start in starts:
        first, stop = owned(start, length, size, stride)
        assert 0 <= first < stop <= size
        assert (owners[start + first : start + stop] == -1).all()
        owners[start + first : start + stop] = start
    for pixel in range(length):
        distances = [abs(2 * (pixel - start) + 1 - size) for start in starts]
        assert owners[pixel] == starts[int(np.argmin(distances))]


def test_a_stride_above_the_size_leaves_gaps() -> None:
    made = predictions(sliding(16, 16, 4, 6), 2, seed=1)
    blended = blend(16, 16, 4, 6, "none", made, outputs=2)
    assert blended.known[:4, :4].all()
    assert not blended.known[4:6].any()
    assert (blended.scores[:, 6:10, 6:10] == made[Window(6, 6, 4, 4)][0]).all()
