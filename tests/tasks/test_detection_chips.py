from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from affine import Affine

from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import BoxLabels
from rvbuild.geo.windows import Window, sliding
from rvbuild.stages.chip.windows import candidates, uniform
from rvbuild.tasks.detection import task as task
from rvbuild.tasks.detection.chips import BoxAim, target

GRID = Grid(200, 200, Affine.identity(), None)
WINDOW = Window(10, 10, 20, 20)


def chip(**changed: Any) -> dict[str, Any]:
    return {
        "size_px": 20,
        "stride_px": 20,
        "method": "sliding",
        "per_scene": 40,
        "size_limits_px": None,
        "within_aoi": True,
        "ioa_thresh": 0.8,
        "clip": False,
        "neg_ratio": None,
        "neg_ioa_thresh": 0.2,
        **changed,
    }


def labels(*boxes: tuple[float, float, float, float]) -> BoxLabels:
    return BoxLabels(np.array(boxes, dtype=float).reshape(-1, 4), np.zeros(len(boxes), dtype=np.int64), GRID)


def aim(source: BoxLabels, **changed: Any) -> BoxAim:
    made = task.aim(source, chip(**changed), partial(uniform, 3, "aim"))
    assert isinstance(made, BoxAim)
    return made


def test_slivers_are_no_targets_of_sliding_chips() -> None:
    # Raster Vision passes ioa_thresh on to random chips alone: with sliding ones each sliver is a target.
    source = labels((5, 12, 15, 22), (9, 20, 19, 30), (12, 12, 16, 16))
    assert target(source, WINDOW, chip())["boxes"].tolist() == [[-1, 10, 9, 20], [2, 2, 6, 6]]
    assert target(source, WINDOW, chip(ioa_thresh=0.5))["boxes"].shape == (3, 4)
    assert target(source, WINDOW, chip(ioa_thresh=1.0))["boxes"].tolist() == [[2, 2, 6, 6]]


def test_targets_can_be_clipped_to_their_chip() -> None:
    clipped = target(labels((9, 20, 19, 30)), WINDOW, chip(clip=True))
    assert clipped["boxes"].tolist() == [[0, 10, 9, 20]] and clipped["boxes"].dtype == np.float32


def test_without_neg_ratio_nothing_is_chosen() -> None:
    assert task.aim(labels((0, 0, 5, 5)), chip(), partial(uniform, 3)) is None


@pytest.mark.parametrize(("ratio", "background"), [(0.0, 0), (0.5, 2), (1.0, 3), (2.0, 6), (100.0, 94)])
def test_sliding_chips_have_so_many_background_ones(ratio: float, background: int) -> None:
    # Three windows have a box, three have a part of one: neither positive nor background.
    source = labels((2, 2, 8, 8), (42, 2, 48, 8), (35, 50, 45, 60), (100, 100, 106, 106), (55, 20.5, 65, 21))
    windows = sliding(200, 200, 20, 20)
    kinds = [source.read(window).share.tolist() for window in windows]
    positive = [w for w, shares in zip(windows, kinds, strict=True) if any(s >= 0.8 for s in shares)]
    unclear = [w for w, s in zip(windows, kinds, strict=True) if s and max(s) < 0.8]
    assert (len(positive), len(unclear)) == (3, 4)
    chosen = candidates(GRID, None, chip(neg_ratio=ratio), 3, None, aim(source, neg_ratio=ratio))
    assert set(positive) <= set(chosen) and not set(unclear) & set(chosen)
    assert len(chosen) == 3 + min(background, 93)
    assert chosen == [window for window in windows if window in chosen]


def test_a_scene_without_boxes_gives_background_alone() -> None:
    chosen = candidates(GRID, None, chip(neg_ratio=1.5), 3, None, aim(labels(), neg_ratio=1.5))
    assert len(chosen) == 2
    settings = chip(method="random", neg_ratio=1.0)
    windows = candidates(GRID, None, settings, 3, None, aim(labels(), **settings))
    assert 10 < len(windows) < 30


def test_random_chips_are_positive_or_background_by_the_ratio() -> None:
    source = labels((2, 2, 8, 8), (150.5, 30, 160, 44.5))
    settings = chip(method="random", neg_ratio=0.5, per_scene=200)
    windows = candidates(GRID, None, settings, 3, None, aim(source, **settings))
    shares = [source.read(window).share for window in windows]
    positive = [bool((share >= 0.8).any()) for share in shares]
    assert len(windows) == 200
    assert 110 < sum(positive) < 155
    assert all((share < 0.2).all() for share, is_positive in zip(shares, positive, strict=True) if not is_positive)
    # Both boxes are shown, each at many places of the chip.
    assert len({tuple(window[:2]) for window, yes in zip(windows, positive, strict=True) if yes}) > 40
    assert windows == candidates(GRID, None, settings, 3, None, aim(source, **settings))


def test_a_box_larger_than_a_chip_is_shown_in_part() -> None:
    source = labels((50, 50, 110, 60))
    settings = chip(method="random", neg_ratio=0.0, per_scene=20, ioa_thresh=0.3)
    windows = candidates(GRID, None, settings, 3, None, aim(source, **settings))
    assert len(windows) == 20
    assert all(window.col >= 50 and window.col_stop <= 110 for window in windows)
