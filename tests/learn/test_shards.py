import numpy as np
import pytest
import safetensors.numpy

from rvbuild.errors import DataError
from rvbuild.learn.chips.shards import open_shard


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", "int64", "bool"]
)
def test_reads_what_safetensors_wrote(tmp_path, dtype):
    rng = np.random.default_rng(0)
    tensors = {"a": rng.integers(0, 2, (3, 2, 5)).astype(dtype), "b": np.arange(7, dtype=np.uint8)}
    safetensors.numpy.save_file(tensors, tmp_path / "s.safetensors", metadata={"note": "x"})
    shard = open_shard(tmp_path / "s.safetensors")
    assert set(shard) == {"a", "b"}
    for name, values in tensors.items():
        assert shard[name].dtype == values.dtype and np.array_equal(shard[name], values)
        assert not shard[name].flags.writeable


def test_empty_tensors(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros((0, 3), np.uint8)}, tmp_path / "s.safetensors")
    assert open_shard(tmp_path / "s.safetensors")["a"].shape == (0, 3)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}x", b"\x02\0\0\0\0\0\0\0[]"])
def test_not_a_shard(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    if content.endswith(b"{}x"):
        assert open_shard(tmp_path / "s") == {}
        return
    with pytest.raises(DataError, match=r"cannot be read as a chip shard .*; build the chips again"):
        open_shard(tmp_path / "s")


def test_cut_off(tmp_path):
    path = tmp_path / "s.safetensors"
    safetensors.numpy.save_file({"a": np.arange(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"a tensor of shape \[100\] at bytes 0 to 800 of 799"):
        open_shard(path)


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"dtype": "U8", "shape": [-2, -3], "data_offsets": [0, 6]}}',
        '{"a": {"dtype": "U8", "shape": [6.0], "data_offsets": [0, 6]}}',
        '{"a": {"dtype": "U8", "shape": [6], "data_offsets": [0.0, 6.0]}}',
        '{"a": {"dtype": "U8", "shape": [true], "data_offsets": [0, 1]}}',
        '{"a": {"dtype": "U8", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}',
        '{"a": {"dtype": "U8", "shape": "6", "data_offsets": [0, 6]}}',
        '{"a": {"dtype": ["U8"], "shape": [6], "data_offsets": [0, 6]}}',
        '{"a": {"dtype": "X8", "shape": [6], "data_offsets": [0, 6]}}',
        '{"a": {"dtype": "U8", "shape": [6], "data_offsets": [0, 6], "more": 1}}',
        '{"a": 1}',
        "[" * 50_000,
        '{"a": {"dtype": "U16", "shape": [3], "data_offsets": [1, 6]}}',
    ],
)
def test_headers_that_promise_something_else(tmp_path, header):
    path = tmp_path / "s.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(6))
    with pytest.raises(DataError, match="cannot be read as a chip shard"):
        open_shard(path)
