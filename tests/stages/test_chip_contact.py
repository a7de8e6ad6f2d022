from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rvbuild.geo.windows import Window
from rvbuild.geo.write.picture import Picture
from rvbuild.stages.chip import contact_sheet as chip_contact
from rvbuild.stages.chip.contact_sheet import CHIPS, TILE_PX, Shown, choose, write_sheet
from tests.stages.sample_scenes import CLASSES


def chosen(places: list[int], *, labelled: set[int] | None = None, seed: int = 1) -> list[int]:
    return choose(seed, ((Window(place, 0, 8, 8), labelled is None or place in labelled) for place in places))


def test_few_chips_are_all_shown() -> None:
    assert chosen([4, 2, 9]) == [0, 1, 2]


def test_of_many_chips_some_are_drawn_by_the_seed() -> None:
    drawn = chosen(list(range(200)))
    assert len(drawn) == CHIPS
    assert drawn == sorted(drawn) == chosen(list(range(200)))
    assert drawn != chosen(list(range(200)), seed=2)
    assert max(drawn) > 120 > 80 > min(drawn)


def test_the_order_of_chips_does_not_matter_for_the_choice() -> None:
    assert sorted(199 - i for i in chosen(list(range(200))[::-1])) == chosen(list(range(200)))


def test_chips_with_labels_come_first() -> None:
    labelled = set(range(90, 100))
    drawn = chosen(list(range(200)), labelled=labelled)
    assert labelled < set(drawn)
    assert len(drawn) == CHIPS


def test_the_same_window_twice_is_no_trouble() -> None:
    assert chosen([5] * 100) == list(range(CHIPS))


def read(position: int) -> Shown:
    def draw(picture: Picture) -> Picture:
        assert picture.shape == (TILE_PX, TILE_PX, 3)
        return picture // 2

    return np.full((3, 8, 8), position, dtype=np.uint8), None, draw


def test_the_sheet_shows_the_chips_in_order(tmp_path: Path) -> None:
    write_sheet(tmp_path / "contact.png", [4, 90], CLASSES, read)
    with Image.open(tmp_path / "contact.png") as picture:
        assert picture.getpixel((100, 100)) == (4, 4, 4)
        assert picture.getpixel((410, 100)) == (90, 90, 90)
        assert picture.getpixel((558, 100)) == (45, 45, 45)


def test_what_is_not_valid_is_black(tmp_path: Path) -> None:
    valid = np.zeros((3, 8, 8), dtype=bool)
    write_sheet(tmp_path / "contact.png", [4], CLASSES, lambda _: (read(4)[0], valid, read(4)[2]))
    with Image.open(tmp_path / "contact.png") as picture:
        assert picture.getpixel((100, 100)) == (0, 0, 0)


def test_nothing_to_show(tmp_path: Path) -> None:
    assert chosen([]) == []
    write_sheet(tmp_path / "contact.png", [], CLASSES, read)
    assert not (tmp_path / "contact.png").exists()


def test_large_chips_are_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    preview = chip_contact.rgb_preview
    monkeypatch.setattr(chip_contact, "rgb_preview", lambda i, v: (shapes.append(i.shape), preview(i, v))[1])
    large = np.zeros((8, 2000, 2000), dtype=np.uint8)
    write_sheet(tmp_path / "contact.png", [0], CLASSES, lambda _: (large, None, read(0)[2]))
    assert shapes == [(3, 334, 334)]
