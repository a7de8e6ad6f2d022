"""The stages of drafts: what is summed, that a previous result changes no byte, and the map."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.learn.linear.moments import size
from rvbuild.progress import Silent
from rvbuild.stages.draft import features, head, sample, stored, sums
from rvbuild.stages.draft import map as mapping
from rvbuild.stages.draft.cells import SceneFeatures
from tests.stages.sample_scenes import CLASSES, LABELS, NULL, digests, image_array, write_aoi, write_raster

HEIGHT, WIDTH, BLOCK_PX = 90, 110, 32
FOLDS = 3

VECTORS = {
    "kind": "vector",
    "layer": None,
    "class": None,
    "class_attribute": "label",
    "class_map": None,
    "background": "tree",
    "unknown": "error",
    "buffer_px": {},
    "all_touched": False,
}


def encode(folder: Path, image: Path, **more: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    settings = {
        "image": {"nodata": None},
        "channels": None,
        "encoder": {"encoder": "random", "stride_px": 4},
        "block_px": BLOCK_PX,
        **more,
    }
    features.run({"image": [image]}, settings, folder, Silent())
    return sorted(folder.iterdir())


def add(
    folder: Path,
    files: list[Path],
    labels: Path,
    labels_settings: dict[str, Any] = LABELS,
    aoi: tuple[Path, ...] = (),
    previous: Path | None = None,
    **more: Any,
) -> list[str]:
    folder.mkdir(exist_ok=True)
    options = {
        "task": "semantic_segmentation",
        "scene": "a",
        "labels": labels_settings,
        "classes": CLASSES,
        "null_id": NULL,
        "background": False,
        "folds": FOLDS,
        "first_fold": 1,
        **more,
    }
    inputs = {"features": files, "labels": [labels], **({"aoi": list(aoi)} if aoi else {})}
    known = {path.name: path for path in previous.iterdir()} if previous else None
    kept = sums.run(inputs, options, folder, Silent(), known)
    for name in kept:
        assert known is not None
        assert not (folder / name).exists()
        shutil.copy(known[name], folder / name)
    return kept


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("image") / "i.tif", image_array(HEIGHT, WIDTH), crs=None)


@pytest.fixture(scope="module")
def encoded(image: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return encode(tmp_path_factory.mktemp("features"), image)


def write_features(path: Path, boxes: list[tuple[float, float, float, float, str]]) -> None:
    records = []
    for x, y, width, height, name in boxes:
        ring = [(x, y), (x + width, y + height / 3), (x, y + height), (x, y)]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        records.append({"type": "Feature", "properties": {"label": name}, "geometry": geometry})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": records}))


def test_features_lie_in_blocks(encoded: list[Path]) -> None:
    scene = SceneFeatures(encoded)
    assert [path.name for path in encoded] == ["features.json", "features.npy"]
    assert (scene.cells.rows, scene.cells.cols, scene.cells.side) == (3, 4, 8)
    last = scene.block(2, 3).reshape(8, 8, -1)
    rows, cols = -(-(HEIGHT - 64) // 4), -(-(WIDTH - 96) // 4)
    assert last[:rows, :cols].any(axis=2).all()
    assert not last[rows:].any()
    assert not last[:, cols:].any()


def test_features_do_not_depend_on_threads_or_tiles(image: Path, encoded: list[Path], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RVBUILD_THREADS", "3")
        patch.setattr(features, "TILE_PX", 32)
        tiled = encode(tmp_path / "tiled", image)
        patch.setenv("RVBUILD_THREADS", "1")
        encode(tmp_path / "again", image)
    assert digests(tmp_path / "tiled") == digests(tmp_path / "again")
    # The margin is as wide as the filters look.
    whole, parts = SceneFeatures(encoded), SceneFeatures(tiled)
    assert (whole.block(1, 1) == parts.block(1, 1)).mean() > 0.999


def test_nodata_and_other_types_are_read(tmp_path: Path) -> None:
    pixels = image_array(HEIGHT, WIDTH, dtype="uint16") * 17
    pixels[:, 20:50, 33:61] = 0
    path = write_raster(tmp_path / "i.tif", pixels, crs=None, nodata=0)
    files = encode(tmp_path / "features", path)
    scene = SceneFeatures(files)
    valid = scene.valid(scene.grid.window)
    assert valid is not None
    assert (valid == (pixels != 0).any(axis=0)).all()
    part = scene.valid(scene.cells.window(1, 1))
    assert part is not None
    assert (part == valid[32:64, 32:64]).all()
    labels = write_raster(tmp_path / "l.tif", np.ones((HEIGHT, WIDTH), dtype=np.uint8), crs=None)
    add(tmp_path / "sums", files, labels)
    assert json.loads((tmp_path / "sums/sums.json").read_text())["pixels"] == [0, int(valid.sum()), 0]


def test_a_band_of_one_value_is_an_error(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "i.tif", np.full((1, 40, 40), 7, dtype=np.uint16), crs=None)
    with pytest.raises(DataError, match="has one value alone, or none; leave it out"):
        encode(tmp_path / "features", path)


def test_sums_are_those_of_the_labelled_pixels(encoded: list[Path], tmp_path: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), NULL, dtype=np.uint8)
    ids[10:70, 5:100] = 1
    ids[20:41, 30:55] = 0
    labels = write_raster(tmp_path / "l.tif", ids, crs=None)
    aoi = write_aoi(tmp_path / "aoi.geojson", (0, 0, 60, 90), crs=None)
    add(tmp_path / "sums", encoded, labels, aoi=(aoi,))
    inside = np.zeros_like(ids, dtype=bool)
    inside[:60, :90] = True
    scene = SceneFeatures(encoded)
    every = np.zeros((96, 128, len(scene.names)), dtype=np.int64)
    for row in range(3):
        for col in range(4):
            cells = scene.block(row, col).reshape(8, 8, -1)
            every[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32] = cells.repeat(4, axis=0).repeat(4, axis=1)
    every = every[:HEIGHT, :WIDTH]
    content, totals = stored.read_totals(sorted((tmp_path / "sums").iterdir()))
    assert totals.shape == (FOLDS, 3, size(len(scene.names)))
    count = len(scene.names)
    for class_id in (0, 1):
        chosen = every[(ids == class_id) & inside]
        sums = totals[:, class_id].sum(axis=0)
        assert content["pixels"][class_id] == sums[0] == len(chosen)
        assert (sums[1 : 1 + count] == chosen.sum(axis=0)).all()
        upper = np.triu_indices(count)
        assert (sums[1 + count :] == (chosen.T @ chosen)[upper]).all()
    assert not totals[:, NULL].any()
    folds = np.zeros_like(totals)
    for row, block, entries in stored.read_blocks(sorted((tmp_path / "sums").iterdir())):
        for class_id, values in zip(block.class_ids, entries, strict=True):
            folds[stored.fold_of(row, block.col, 1, FOLDS), class_id] += values
    assert (folds == totals).all()


def test_background_counts_where_it_means_something(encoded: list[Path], tmp_path: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), NULL, dtype=np.uint8)
    ids[:10] = 0
    labels = write_raster(tmp_path / "l.tif", ids, crs=None)
    add(tmp_path / "sums", encoded, labels, background=True)
    pixels = json.loads((tmp_path / "sums/sums.json").read_text())["pixels"]
    assert pixels == [10 * WIDTH, 0, 80 * WIDTH]


def test_the_sample_tells_pixels_without_labels(tmp_path: Path) -> None:
    pixels = image_array(HEIGHT, WIDTH, dtype="uint16") * 17
    pixels[:, 20:50, 33:61] = 0
    files = encode(tmp_path / "features", write_raster(tmp_path / "i.tif", pixels, crs=None, nodata=0))
    ids = np.full((HEIGHT, WIDTH), NULL, dtype=np.uint8)
    ids[10:70, 5:100] = 1
    labels = write_raster(tmp_path / "l.tif", ids, crs=None)
    aoi = write_aoi(tmp_path / "aoi.geojson", (0, 0, 60, 90), crs=None)
    add(tmp_path / "sums", files, labels, aoi=(aoi,))
    free = (pixels != 0).any(axis=0)
    free[:60, :90] &= ids[:60, :90] == NULL
    padded = np.zeros((96, 128), dtype=np.int64)
    padded[:HEIGHT, :WIDTH] = free
    in_cells = padded.reshape(24, 4, 32, 4).sum(axis=(1, 3))
    scene = SceneFeatures(files)
    chosen = sample.sample_of(scene.cells)
    block_row, block_col = np.divmod(chosen.blocks, 4)
    row, col = block_row * 8 + chosen.places // 8, block_col * 8 + chosen.places % 8
    assert len(set(zip(row.tolist(), col.tolist(), strict=True))) == len(row) > 300
    assert (row * 4).max() < HEIGHT
    assert (col * 4).max() < WIDTH
    assert (np.load(tmp_path / "sums/unlabelled.npy") == in_cells[row, col]).all()
    known = sample.read_unlabelled({"sums/a": sorted((tmp_path / "sums").iterdir())})
    assert known is not None
    assert (known.features == chosen.features(scene)[in_cells[row, col] > 0]).all()
    assert known.pixels.sum() == pytest.approx(free.sum(), rel=0.05)


PLACE, LENGTH = st.tuples(st.integers(-10, WIDTH), st.integers(-10, HEIGHT)), st.integers(5, 50)
FEATURE = st.builds(
    lambda place, width, height, name: (*place, width, height, name),
    *(PLACE, LENGTH, LENGTH, st.sampled_from(["car", "tree"])),
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=st.lists(st.lists(FEATURE, max_size=4), min_size=2, max_size=5), background=st.sampled_from([None, "tree"])
)
def test_a_history_of_edits_gives_the_bytes_of_one_run(
    encoded: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[Any]],
    background: str | None,
) -> None:
    folder, options = tmp_path_factory.mktemp("history"), {**VECTORS, "background": background}
    labels, previous = folder / "l.geojson", None
    for number, boxes in enumerate(history):
        write_features(labels, boxes)
        add(folder / str(number), encoded, labels, options, previous=previous)
        previous = folder / str(number)
    add(folder / "clean", encoded, labels, options)
    assert previous is not None
    assert digests(previous) == digests(folder / "clean")


@pytest.mark.parametrize("kind", ["vector", "raster"])
def test_only_the_rows_of_an_edit_are_written(encoded: list[Path], tmp_path: Path, kind: str) -> None:
    before: list[Any] = [(2, 2, 20, 20, "car"), (70, 70, 20, 15, "car")]
    for name, boxes in (("one", before), ("two", [*before, (40, 40, 10, 10, "car")])):
        write_features(tmp_path / f"{name}.geojson", boxes)
        ids = np.ones((HEIGHT, WIDTH), dtype=np.uint8)
        for x, y, width, height, _ in boxes:
            ids[y : y + height, x : x + width] = 0
        write_raster(tmp_path / f"{name}.tif", ids, crs=None)
    suffix, settings_labels = ("geojson", VECTORS) if kind == "vector" else ("tif", LABELS)
    add(tmp_path / "one", encoded, tmp_path / f"one.{suffix}", settings_labels)
    kept = add(tmp_path / "two", encoded, tmp_path / f"two.{suffix}", settings_labels, previous=tmp_path / "one")
    assert kept == ["sample.npy", "row-00000.npy", "row-00002.npy"]


def test_an_incomplete_previous_result_is_not_used(encoded: list[Path], tmp_path: Path) -> None:
    write_features(tmp_path / "l.geojson", [(2, 2, 20, 20, "car")])
    add(tmp_path / "one", encoded, tmp_path / "l.geojson", VECTORS)
    shutil.copytree(tmp_path / "one", tmp_path / "part")
    (tmp_path / "part/row-00001.npy").unlink()
    assert add(tmp_path / "two", encoded, tmp_path / "l.geojson", VECTORS, previous=tmp_path / "part") == []
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def draft(folder: Path, files: list[Path], labels: Path, settings: dict[str, Any], scores: bool = True) -> Path:
    """Sum, solve and map."""
    shared = {"classes": CLASSES, "null_id": NULL, "background": False}
    add(folder / "sums", files, labels, settings)
    for name in ("head", "draft"):
        (folder / name).mkdir()
    head.run({"sums/a": sorted((folder / "sums").iterdir())}, shared, folder / "head", Silent())
    made = {"features": files, "head": [folder / "head/head.json"]}
    mapping.run(made, {**shared, "scores": scores}, folder / "draft", Silent())
    return folder / "draft"


def test_the_map_shows_what_was_labelled(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(20, 60, (3, 150, 170), dtype=np.uint8)
    ids = np.ones((150, 170), dtype=np.uint8)
    for row, col in ((10, 10), (20, 100), (90, 30), (100, 120)):
        pixels[:, row : row + 30, col : col + 36] += 150
        ids[row : row + 30, col : col + 36] = 0
    pixels[:, :5, :7] = 0
    image = write_raster(tmp_path / "i.tif", pixels, nodata=0)
    files = encode(tmp_path / "features", image)
    labels = write_raster(tmp_path / "l.tif", ids)
    folder = draft(tmp_path, files, labels, LABELS)
    with rasterio.open(folder / "labels.tif") as drawn, rasterio.open(image) as source:
        assert (drawn.shape, drawn.transform, drawn.crs) == (source.shape, source.transform, source.crs)
        decided = drawn.read(1)
    assert (decided[:5, :7] == 255).all()
    known = decided != 255
    assert known.sum() == 150 * 170 - 35
    assert (decided == ids)[known].mean() > 0.95
    with rasterio.open(folder / "scores.tif") as drawn:
        assert drawn.shape == (38, 43)
        assert drawn.descriptions == ("car", "tree")
        scores = drawn.read()
        known = drawn.dataset_mask() != 0
    assert not known[0, 0]
    assert known.sum() == known.size - 1
    assert np.abs(scores.sum(axis=0, dtype=int) - 255)[known].max() <= 1
    assert scores[0, 6, 6] > 200 > 60 > scores[0, 20, 20]


def test_nothing_to_learn_from_is_an_error(encoded: list[Path], tmp_path: Path) -> None:
    labels = write_raster(tmp_path / "l.tif", np.full((HEIGHT, WIDTH), NULL, dtype=np.uint8), crs=None)
    with pytest.raises(DataError, match="no pixel of a training scene has a label"):
        draft(tmp_path, encoded, labels, LABELS)
