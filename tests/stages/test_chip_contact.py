from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rvbuild.geo.windows import Window
from rvbuild.stages.chip_contact import CHIPS, ContactSheet
from rvbuild.stages.chip_shards import Target
from tests.stages.sample_scenes import CLASSES


def sheet(folder: Path, places: list[int], *, labelled: set[int] | None = None, seed: int = 1) -> list[int]:
    """Offer chips whose targets hold their number; return which of them are drawn, in order."""
    contact = ContactSheet(seed)
    for place in places:
        image = np.full((3, 8, 8), place, dtype=np.uint8)
        seen = labelled is None or place in labelled
        contact.offer(Window(place, 0, 8, 8), image, image >= 0, {"labels": image[0]}, seen)
    drawn: list[int] = []

    def draw(target: Target, picture: np.ndarray) -> np.ndarray:
        drawn.append(int(target["labels"][0, 0]))
        return np.zeros((8, 8, 3), dtype=np.uint8)

    contact.write(folder / "contact.png", CLASSES, draw)
    return drawn


def test_few_chips_are_all_shown(tmp_path: Path) -> None:
    assert sheet(tmp_path, [4, 2, 9]) == [4, 2, 9]
    with Image.open(tmp_path / "contact.png") as picture:
        assert picture.getpixel((100, 100)) == (4, 4, 4)


def test_of_many_chips_some_are_drawn_by_the_seed(tmp_path: Path) -> None:
    one = sheet(tmp_path, list(range(200)))
    assert len(one) == CHIPS
    assert one == sorted(one) == sheet(tmp_path, list(range(200)))
    assert one != sheet(tmp_path, list(range(200)), seed=2)
    assert max(one) > 120 > 80 > min(one)


def test_the_order_of_offers_does_not_matter_for_the_choice(tmp_path: Path) -> None:
    assert sorted(sheet(tmp_path, list(range(200))[::-1])) == sheet(tmp_path, list(range(200)))


def test_chips_with_labels_come_first(tmp_path: Path) -> None:
    labelled = set(range(90, 100))
    found = sheet(tmp_path, list(range(200)), labelled=labelled)
    assert labelled < set(found)
    assert len(found) == CHIPS


def test_the_same_window_twice_is_no_trouble(tmp_path: Path) -> None:
    assert len(sheet(tmp_path, [5] * 100)) == CHIPS


def test_nothing_to_show(tmp_path: Path) -> None:
    assert sheet(tmp_path, []) == []
    assert not (tmp_path / "contact.png").exists()


def test_large_chips_are_kept_small() -> None:
    contact = ContactSheet(0)
    image = np.zeros((8, 2000, 2000), dtype=np.uint8)
    contact.offer(Window(0, 0, 2000, 2000), image, image == 0, {"labels": image[0]}, True)
    (kept,) = contact._kept
    assert kept.image.nbytes < image.nbytes / 50
    assert kept.image.base is None
