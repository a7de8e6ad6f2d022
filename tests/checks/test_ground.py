"""The ground of scenes: what those of different splits show both."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rvbuild.checks.ground import ground_of, shared
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.grid import Grid

UTM33, UTM32 = CRS.from_epsg(32633), CRS.from_epsg(32632)
HERE = Path("a.tif")


def grid(x: float = 500_000, y: float = 5_800_000, side: int = 100, res: float = 0.5, crs: CRS | None = UTM33) -> Grid:
    """Return a north-up grid whose upper left corner is (x, y)."""
    return Grid(side, side, Affine(res, 0, x, 0, -res, y), crs)


def scene(id_: str, split: str, there: Grid, box: tuple[float, ...] | None = None, **more: Any) -> dict[str, Any]:
    aoi = None if box is None else Aoi([shapely.box(*box)], there)
    ground = ground_of(there, aoi, [more.pop("file", Path(f"{id_}.tif"))], more.pop("reach_px", 0))
    return {"id": id_, "base": id_, "split": split, "ground": json.loads(json.dumps(ground)), **more}


def shared_ground(*scenes: dict[str, Any]) -> list[tuple[str, str, list[str], float]]:
    return [
        (record["scene"], record["split"], record["others"], round(record["share"], 2)) for record in shared(scenes)
    ]


@pytest.mark.parametrize(
    ("dx", "share"),
    [(0, 1.0), (25, 0.49), (40, 0.18), (50, None), (49.9, None), (50.2, None), (-50, None), (500, None)],
)
def test_neighbours_share_nothing_and_others_what_they_do(dx: float, share: float | None) -> None:
    got = shared_ground(scene("a", "train", grid()), scene("c", "validation", grid(500_000 + dx)))
    assert got == ([] if share is None else [("c", "train", ["a"], share)])


def test_neighbours_in_large_images_share_nothing() -> None:
    """The border of two images of 100 km is a curve in degrees."""
    west, east = (grid(400_000 + x, 6_500_000, 10_980, 10) for x in (0, 109_800))
    assert shared_ground(scene("a", "train", west), scene("c", "test", east)) == []


def test_scenes_of_different_crs() -> None:
    """A scene 9 degrees west of its central meridian, and the same ground in the next zone."""
    from rasterio.warp import transform

    (x,), (y,) = transform(UTM33, UTM32, [500_020.0], [5_799_980.0])
    got = shared_ground(scene("a", "train", grid()), scene("c", "validation", grid(x - 20, y + 20, crs=UTM32)))
    assert [record[:3] for record in got] == [("c", "train", ["a"])] and got[0][3] > 0.9
    assert shared_ground(scene("a", "train", grid()), scene("c", "validation", grid(crs=UTM32))) == []


def test_areas_of_interest_count_and_chips_that_reach_beyond_them() -> None:
    west, east = scene("a", "train", grid(), (0, 0, 50, 100)), scene("c", "validation", grid(), (50, 0, 100, 100))
    assert shared_ground(west, east) == []
    reaching = scene("a", "train", grid(), (0, 0, 50, 100), reach_px=26)
    assert shared_ground(reaching, east) == [("c", "train", ["a"], 0.5)]


def test_parts_of_one_scene_share_nothing() -> None:
    whole = grid(side=400)
    settings = {"block_px": 50, "seed": 1, "validation": {"fraction": 0.25}, "test": None}
    parts = [open_aoi([], whole, {"blocks": {**settings, "split": split}}) for split in ("train", "validation")]
    grounds = [ground_of(whole, part, [HERE]) for part in parts]
    scenes = [
        {"id": f"a.{split}", "base": base, "split": split, "ground": ground}
        for split, base, ground in zip(("train", "validation"), "ab", grounds, strict=True)
    ]
    assert shared(scenes) == []  # although here they are called different scenes
    other = scene("c", "validation", whole)
    assert shared_ground(scenes[0], other)[0][2:] == (["a.train"], pytest.approx(0.75, abs=0.06))


def test_images_without_a_place_share_ground_if_they_are_one_file() -> None:
    plain = Grid(100, 100, Affine.identity(), None)
    a, c = scene("a", "train", plain, file=HERE), scene("c", "test", plain, file=HERE)
    assert shared_ground(a, c) == [("c", "train", ["a"], 1.0)]
    assert shared_ground(a, scene("c", "test", plain, file=Path("c.tif"))) == []
    right = plain.crop(plain.window._replace(col=50, width=50))
    assert shared_ground(scene("a", "train", right, file=HERE), c) == [("c", "train", ["a"], 0.49)]
    # A world file without a CRS places an image among others without one.
    assert shared_ground(scene("a", "train", grid(crs=None)), scene("c", "test", grid(crs=None))) == [
        ("c", "train", ["a"], 1.0)
    ]


def test_across_the_date_line_and_without_ground() -> None:
    line = Grid(100, 100, Affine(0.01, 0, 179.5, 0, -0.01, 10), CRS.from_epsg(4326))
    assert shared_ground(scene("a", "train", line), scene("c", "test", line)) == [("c", "train", ["a"], 1.0)]
    assert ground_of(grid(side=2), None, [HERE]) is None


@pytest.mark.slow
def test_a_year_of_images_of_one_place_is_fast() -> None:
    place = ground_of(grid(), None, [HERE])
    scenes = [
        {"id": str(n), "base": str(n), "split": ("train", "validation")[n % 2], "ground": place} for n in range(1000)
    ]
    begun = time.process_time()
    got = shared(scenes)
    assert len(got) == 500 and all(place["share"] == 1 for place in got)
    assert time.process_time() - begun < 8
