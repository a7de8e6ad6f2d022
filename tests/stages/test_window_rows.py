from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.windows import sliding
from rvbuild.stages.window_rows import WindowRows


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 60),
    size=st.integers(2, 20),
    batch_size=st.integers(1, 4),
    data=st.data(),
)
def test_a_band_needs_whole_groups_that_hold_all_its_windows(
    height: int, width: int, size: int, batch_size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, size))
    first = data.draw(st.integers(0, height - 1))
    stop = data.draw(st.integers(first + 1, height))
    windows = sliding(height, width, size, stride)
    rows = WindowRows.of(width, (size, stride), batch_size)
    groups = rows.needed(first, stop)
    assert set(groups) >= {rows.group(window) for window in windows if window.row < stop and window.row_stop > first}

    top, bottom = rows.pixels(groups, height)
    needed = [window for window in windows if rows.group(window) in groups]
    assert top <= first < stop <= bottom
    assert (min(w.row for w in needed), max(min(height, w.row_stop) for w in needed)) == (top, bottom)


def test_few_batches_of_a_scene_are_not_full() -> None:
    """Groups that end make few more batches, however narrow the scene is."""
    more = []
    column = sliding(200 * 64, 64, 64, 64)
    for columns in range(1, 313):
        rows = WindowRows.of(columns * 64, (64, 64), 8)
        _, counts = np.unique([rows.group(window) for window in column], return_counts=True)
        windows = counts * columns
        more.append(np.sum(-(-windows // 8)) * 8 / windows.sum() - 1)
    assert max(more) < 0.1 and np.mean(more) < 0.04
