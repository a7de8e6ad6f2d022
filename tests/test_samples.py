from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from rvbuild.data.samples import POTSDAM_SCENES, main, make_potsdam

COLORS = {
    "car": (255, 255, 0),
    "building": (0, 0, 255),
    "low_vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "impervious": (255, 255, 255),
    "clutter": (255, 0, 0),
}


def test_the_files_are_as_isprs_ships_them(tmp_path: Path) -> None:
    ((image_path, label_path),) = make_potsdam(tmp_path, size_px=200, scenes=["2_10"])
    assert image_path == tmp_path / "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif"
    assert label_path == tmp_path / "5_Labels_for_participants/top_potsdam_2_10_label.tif"
    with rasterio.open(image_path) as image, rasterio.open(label_path) as labels:
        assert (image.count, labels.count) == (4, 3)
        assert image.crs.to_epsg() == labels.crs.to_epsg() == 32633
        assert image.transform == labels.transform
        assert image.res == (0.05, 0.05)
        assert set(image.dtypes) == set(labels.dtypes) == {"uint8"}
        assert image.profile["tiled"]
        assert ColorInterp.alpha not in image.colorinterp
        colors = {tuple(color) for color in labels.read().reshape(3, -1).T.tolist()}
    assert colors == set(COLORS.values())


def test_imagery_follows_labels(tmp_path: Path) -> None:
    made = make_potsdam(tmp_path, size_px=150, scenes=["2_10", "7_12"])

    def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
        with rasterio.open(pair[0]) as image, rasterio.open(pair[1]) as labels:
            return image.read().astype(float), labels.read()

    image, labels = read(made[0])
    means = {n: image[:, (labels == np.array(c)[:, None, None]).all(0)].mean(1) for n, c in COLORS.items()}
    image, labels = read(made[1])
    distance = np.stack([((image - mean[:, None, None]) ** 2).sum(0) for mean in means.values()])
    nearest = np.array(list(COLORS.values()))[distance.argmin(0)]
    right = (np.moveaxis(nearest, -1, 0) == labels).all(0)
    assert right.mean() > 0.8, "the colours of one tile tell the classes of another"


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    def made(name: str, seed: int = 0) -> list[bytes]:
        pairs = make_potsdam(tmp_path / name, size_px=64, scenes=["2_10", "2_11"], seed=seed)
        return [path.read_bytes() for pair in pairs for path in pair]

    first = made("one")
    assert first == made("two")
    assert first != made("three", seed=1)
    assert len(set(first)) == 4


def test_tiles_lie_side_by_side(tmp_path: Path) -> None:
    made = make_potsdam(tmp_path, size_px=40, scenes=["2_10", "2_11", "3_10"])
    bounds = []
    for path, _ in made:
        with rasterio.open(path) as file:
            bounds.append(file.bounds)
    assert bounds[0].right == pytest.approx(bounds[1].left)
    assert bounds[0].bottom == pytest.approx(bounds[2].top)


def test_there_are_24_labelled_tiles() -> None:
    assert len(POTSDAM_SCENES) == len(set(POTSDAM_SCENES)) == 24
    assert {"2_12", "3_12", "6_12", "7_7"} <= set(POTSDAM_SCENES)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["potsdam", str(tmp_path), "--size-px", "32", "--scenes", "6_7, 7_8"])
    assert "2 tiles of 32 x 32 px" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.tif"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenes", "2-10"], 'expected tile ids like 2_10, found "2-10"'),
        (["--size-px", "0"], "expected at least 1, found 0"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["potsdam", str(tmp_path), *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
