from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from rvbuild.geo.windows import Window
from rvbuild.learn.chips.shards import open_shard
from rvbuild.stages.chip import shards as chip_shards
from rvbuild.stages.chip.shards import ShardWriter, write_tensors
from tests.stages.sample_scenes import digests, empty


def pack(targets: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {"labels": np.stack([target["labels"] for target in targets])}


def write(
    folder: Path, images: np.ndarray, valid: np.ndarray | None = None, most: int | None = None
) -> list[dict[str, object]]:
    writer = ShardWriter(folder, 0, pack, images.shape[1:], images.dtype, len(images) if most is None else most)
    for i, image in enumerate(images):
        known = np.ones(image.shape, dtype=bool) if valid is None else valid[i]
        writer.add(Window(i, 2 * i, 5, 5), image, known, {"labels": np.full(image.shape[1:], i, dtype=np.uint8)})
    writer.finish()
    return writer.shards


def images(n: int, dtype: str = "uint8", shape: tuple[int, int, int] = (3, 5, 5)) -> np.ndarray:
    return (np.random.default_rng(n).random((n, *shape)) * 200).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])
def test_every_reader_of_safetensors_finds_the_same(tmp_path: Path, dtype: str) -> None:
    chips = images(7, dtype)
    shards = write(tmp_path, chips)
    assert shards == [{"images": "images-00000.safetensors", "labels": "labels-00000.safetensors", "count": 7}]
    path = tmp_path / "images-00000.safetensors"
    for tensors in (
        safetensors.numpy.load_file(path),
        {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(path).items()},
        open_shard(path),
    ):
        assert set(tensors) == {"images", "windows"}
        assert (tensors["images"] == chips).all()
        assert tensors["images"].dtype == dtype
        assert tensors["windows"].tolist() == [[i, 2 * i, 5, 5] for i in range(7)]
    labels = safetensors.numpy.load_file(tmp_path / "labels-00000.safetensors")["labels"]
    assert labels[:, 0, 0].tolist() == list(range(7))


def test_images_are_aligned_to_pages(tmp_path: Path) -> None:
    """An odd number of bytes per chip must not misalign anything."""
    chips = images(3, "float64", (1, 3, 3))
    write(tmp_path, chips, most=50)
    shard = open_shard(tmp_path / "images-00000.safetensors")
    assert shard["images"].flags.aligned
    assert shard["windows"].flags.aligned
    size = (tmp_path / "images-00000.safetensors").stat().st_size
    assert (size - chips.nbytes) % chip_shards.PAGE == 0


def test_invalid_values_are_zero_and_marked(tmp_path: Path) -> None:
    chips = images(4, "float32", (2, 5, 11))
    valid = np.random.default_rng(0).random(chips.shape) > 0.3
    chips[~valid] = np.nan
    write(tmp_path, chips, valid)
    tensors = safetensors.numpy.load_file(tmp_path / "images-00000.safetensors")
    assert tensors["valid"].shape == (4, 2, 5, 2)
    assert (np.unpackbits(tensors["valid"], axis=-1, count=11).astype(bool) == valid).all()
    assert (tensors["images"] == np.where(valid, chips, 0)).all()


def test_shards_have_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_shards, "SHARD_BYTES", 3 * 75 + 70)
    chips = images(8)
    valid = np.ones(chips.shape, dtype=bool)
    valid[4, 0, 0, 0] = False
    shards = write(tmp_path, chips, valid)
    assert [shard["count"] for shard in shards] == [3, 3, 2]
    assert [shard["images"][:-12] for shard in shards] == ["images-00000", "images-00000-1", "images-00000-2"]
    tensors = [safetensors.numpy.load_file(tmp_path / str(shard["images"])) for shard in shards]
    assert ["valid" in shard for shard in tensors] == [False, True, False]
    assert (np.concatenate([shard["images"] for shard in tensors]) == np.where(valid, chips, 0)).all()


def test_a_chip_larger_than_a_shard_is_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_shards, "SHARD_BYTES", 10)
    assert [shard["count"] for shard in write(tmp_path, images(2))] == [1, 1]


def test_no_chips_no_files(tmp_path: Path) -> None:
    assert write(tmp_path, images(0), most=0) == []
    assert list(tmp_path.iterdir()) == []


def test_bytes_depend_on_the_chips_alone(tmp_path: Path) -> None:
    first, second = empty(tmp_path / "one"), empty(tmp_path / "other")
    write(first, images(5))
    write(second, images(5))
    assert digests(first) == digests(second)


def test_an_abandoned_writer_leaves_no_open_file(tmp_path: Path) -> None:
    """Warnings are errors here: that of an open file, too."""
    writer = ShardWriter(tmp_path, 7, pack, (3, 5, 5), np.dtype("uint8"), 4)
    writer.add(Window(0, 0, 5, 5), images(1)[0], np.ones((3, 5, 5), dtype=bool), {})
    writer.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["images-00007.safetensors"]


def test_tensors_of_several_types(tmp_path: Path) -> None:
    tensors = {
        "classes": np.arange(3, dtype=np.uint8),
        "boxes": np.arange(8, dtype=np.float64).reshape(2, 4),
        "offsets": np.arange(4, dtype=np.int64),
        "none": np.zeros((0, 4), dtype=np.float32),
    }
    write_tensors(tmp_path / "t.safetensors", tensors)
    loaded = safetensors.numpy.load_file(tmp_path / "t.safetensors")
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert (loaded[name] == tensor).all()
