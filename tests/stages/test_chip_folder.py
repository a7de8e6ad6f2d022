"""Arrays that are chips: nothing is taken for what their headers promise."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.files import budget
from rvbuild.files.zipped import Zipped
from rvbuild.geo.raster.tags import Apply
from rvbuild.stages.chip.folder import _read


def promising(shape: str, dtype: str = "<f8") -> bytes:
    """Return the header of an array, and no values."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_promises_more_than_a_chip_can_have(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "memory_bytes", lambda: 1 << 30)
    for shape, message in (
        ("(1000000, 1000000, 3)", "1000000 x 1000000 px, too large for a chip"),
        ("(1000, 1000, 1000000)", "needs about 8.0 TB of memory|needs about 8000.0 GB of memory"),
        ("(1000000000000,)", "needs about"),
        ("(-1, 4)", "cannot be read as a NumPy array"),
    ):
        path = tmp_path / "x.npy"
        path.write_bytes(promising(shape))
        if zipped:
            with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
                archive.write(path, "x.npy")
            path = Zipped(tmp_path / "c.zip", "x.npy")
        with pytest.raises(DataError, match=f"x.npy: .*({message})"):
            _read(path, None, Apply())


def test_an_array_is_read(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.save(tmp_path / "x.npy", array)
    image, valid = _read(tmp_path / "x.npy", None, Apply())
    assert np.array_equal(image, array.transpose(2, 0, 1)) and valid.all()
