"""The gate for paths from data: nothing outside of a directory is read, written or removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.engine.store import inside
from rvbuild.errors import StoreError

HOSTILE = ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "/a", "a\0b", "a\\b", "a/./b", "x" * 256]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "file").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("outside")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "a" / "linked").symlink_to(tmp_path / "outside" / "file")
    return tmp_path / "root"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_is_not_plain_names_is_refused_by_all(root, path):
    before = everything(root.parent)
    assert not inside.is_path(path)
    assert inside.stat_file(root, path) is None
    staged = root / "staged"
    staged.write_text("x")
    for use in (
        lambda: inside.read(root, path),
        lambda: inside.write(root, path, b"x"),
        lambda: inside.move(staged, root, path),
        lambda: inside.remove(root, path),
    ):
        with pytest.raises((StoreError, ValueError)):
            use()
    staged.unlink()
    assert everything(root.parent) == before


def test_what_is_behind_a_link_is_left_alone(root):
    before = everything(root.parent / "outside")
    staged = root / "staged"
    staged.write_text("x")
    for use in (
        lambda: inside.read(root, "link/file"),
        lambda: inside.write(root, "link/new", b"x"),
        lambda: inside.move(staged, root, "link/file"),
        lambda: inside.remove(root, "link/file"),
    ):
        with pytest.raises(StoreError, match="link: is a symbolic link"):
            use()
    with pytest.raises(FileNotFoundError):
        inside.read(root, "a/linked")
    assert inside.stat_file(root, "a/linked") is None
    inside.write(root, "a/linked", b"new")  # replaces the link
    assert inside.remove(root, "a/linked")
    (root / "a" / "linked").symlink_to(root.parent / "outside" / "file")
    assert inside.remove(root, "a/linked")
    assert everything(root.parent / "outside") == before


def test_the_directory_itself_may_be_a_link(root):
    (root.parent / "alias").symlink_to(root)
    inside.write(root.parent / "alias", "b/new", b"x")
    assert (root / "b" / "new").read_bytes() == b"x"


def test_a_pipe_is_no_file_and_nobody_waits_for_it(root):
    os.mkfifo(root / "pipe")
    assert inside.stat_file(root, "pipe") is None
    with pytest.raises(FileNotFoundError):
        inside.read(root, "pipe")
    with pytest.raises(StoreError, match="not a plain file"):
        inside.require_own(root, (), ("pipe",))


def test_a_file_or_directory_in_the_way_is_named(root):
    with pytest.raises(StoreError, match=r"a/file: is not a directory"):
        inside.write(root, "a/file/x", b"x")
    with pytest.raises(StoreError, match=r"root/a: is a directory"):
        inside.remove(root, "a")
    with pytest.raises(StoreError, match="link: is a symbolic link"):
        inside.require_own(root, ("a", "absent", "link"), ())


def test_empty_directories_above_go_too_if_asked(root):
    inside.write(root, "b/c/d/one", b"")
    inside.write(root, "b/two", b"")
    assert inside.remove(root, "b/c/d/one", folders=True)
    assert sorted(p.name for p in (root / "b").iterdir()) == ["two"]
    assert not inside.remove(root, "b/c/d/one", folders=True)
    assert inside.remove(root, "b/two", folders=True)
    assert root.exists()
    assert not (root / "b").exists()


def test_reading_is_bounded(root):
    assert inside.read(root, "a/file", 6) == b"inside"
    with pytest.raises(ValueError, match="expected at most 5"):
        inside.read(root, "a/file", 5)


@given(st.text(alphabet="ab./\\\0", max_size=8))
def test_what_is_plain_stays_where_it_is(path):
    if inside.is_path(path):
        assert os.path.normpath(f"/root/{path}") == f"/root/{path}"
