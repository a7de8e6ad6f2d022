"""Files inside zips: read as if they were files, and nothing that a zip says is believed."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.files import zipped
from rvbuild.files.zipped import Zipped, members
from rvbuild.geo.raster.file import open_dataset


def write(path: Path, compression: int = zipfile.ZIP_DEFLATED, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_member_is_read_like_a_file(tmp_path, compression):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    archive = write(tmp_path / "a.zip", compression, **{"x/y.png": png(pixels), "t.txt": "é\n".encode()})
    path = Zipped(archive, "x/y.png")
    assert (str(path), path.name, path.stem, path.suffix) == (f"{archive}/x/y.png", "y.png", "y", ".png")
    with open_dataset(path) as file:
        assert np.array_equal(np.moveaxis(file.read(), 0, -1), pixels)
    assert Zipped(archive, "t.txt").read_text(encoding="utf-8") == "é\n"
    assert pickle.loads(pickle.dumps(path)).read_bytes() == png(pixels)


def test_what_changes_is_read_again(tmp_path):
    archive = write(tmp_path / "a.zip", a=b"one")
    assert (members(archive), Zipped(archive, "a").read_bytes()) == (("a",), b"one")
    write(archive, a=b"three", b=b"")
    assert (members(archive), Zipped(archive, "a").read_bytes()) == (("a", "b"), b"three")


def test_folders_hidden_files_and_those_of_macos_are_left_out(tmp_path):
    names = ["b/", "b/.DS_Store", "__MACOSX/b/._a.png", ".git/x", "b/a.png", "a.png"]
    assert members(write(tmp_path / "a.zip", **dict.fromkeys(names, b""))) == ("a.png", "b/a.png")


@pytest.mark.parametrize("name", [".", "./."])
def test_a_name_of_no_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"a\.zip: the name '\.(/\.)?' is not a valid file name"):
        members(write(tmp_path / "a.zip", **{name: b"", "a.png": b""}))


def test_an_empty_name_is_none(tmp_path):
    content = bytearray(write(tmp_path / "a.zip", zipfile.ZIP_STORED, X=b"x").read_bytes())
    listed = content.index(b"PK\1\2")
    content[listed + 28], content[listed + 30] = 0, 1  # no letter of the name, and one of something else instead
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: the name '' is not a valid file name"):
        members(tmp_path / "a.zip")


def test_a_damaged_stream_is_a_message(tmp_path):
    archive = write(tmp_path / "a.zip", zipfile.ZIP_LZMA, a=bytes(range(256)) * 9)
    content = bytearray(archive.read_bytes())
    content[45:80] = b"\xff" * 35
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip/a: cannot be read from the zip: "):
        Zipped(archive, "a").read_bytes()


@pytest.mark.parametrize("name", ["../evil.png", "train/../../evil.png", "/etc/evil.png"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    archive = write(tmp_path / "a.zip", **{"train/a.png": b"", name: b"evil"})
    with pytest.raises(DataError, match="points outside the zip"):
        members(archive)
    assert [path.name for path in tmp_path.parent.rglob("*evil*")] == []


def test_a_file_that_unpacks_to_much_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipped, "MOST_BYTES", 1000)
    archive = write(tmp_path / "a.zip", bomb=bytes(1001), good=bytes(1000))
    assert archive.stat().st_size < 500
    assert len(Zipped(archive, "good").read_bytes()) == 1000
    with pytest.raises(DataError, match="more than the limit of"):
        Zipped(archive, "bomb").read_bytes()


def test_a_file_that_unpacks_to_more_than_it_says_is_not_read(tmp_path):
    archive = write(tmp_path / "a.zip", bomb=bytes(100_000))
    lied = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(lied)
    with pytest.raises(DataError, match="cannot be read from the zip"):
        Zipped(archive, "bomb").read_bytes()


def test_damage_passwords_and_what_is_no_zip(tmp_path):
    archive = write(tmp_path / "a.zip", zipfile.ZIP_STORED, a=b"content")
    archive.write_bytes(archive.read_bytes().replace(b"content", b"cantent"))
    with pytest.raises(DataError, match=r"a\.zip/a: cannot be read from the zip: Bad CRC-32"):
        Zipped(archive, "a").read_bytes()
    locked = write(tmp_path / "b.zip", zipfile.ZIP_STORED, a=b"content")
    content = bytearray(locked.read_bytes())
    for place in (6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1  # says that a password is needed
    locked.write_bytes(content)
    with pytest.raises(DataError, match="password required"):
        Zipped(locked, "a").read_bytes()
    (tmp_path / "c.zip").write_text("no zip")
    with pytest.raises(DataError, match=r"c\.zip: cannot be read as a zip: File is not a zip file"):
        members(tmp_path / "c.zip")
    with pytest.raises(DataError, match="no item named 'b'"):
        Zipped(archive, "b").read_bytes()
