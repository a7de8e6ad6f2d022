from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rvbuild.errors import DataError
from rvbuild.stages.bundle import zip as bundle_zip
from rvbuild.stages.bundle.predict import open_bundle
from tests.stages.sample_bundles import contents, refuse, rewrite
from tests.stages.sample_scenes import empty


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_file_that_is_cut_off(packed: Path, tmp_path: Path, keep: float) -> None:
    data = packed.read_bytes()
    short = tmp_path / "short.zip"
    short.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    refuse(short, tmp_path / "into", "cannot be read as a bundle")


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed(packed: Path, tmp_path: Path) -> None:
    """Wherever it is: it is refused, or it is in what has no meaning and the members are the same."""
    data = packed.read_bytes()
    expected = contents(packed)
    for position in {*range(0, len(data), len(data) // 150), *range(len(data) - 400, len(data), 3)}:
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        into = empty(tmp_path / f"into{position}")
        try:
            open_bundle(broken, into)
        except DataError:
            continue
        assert all((into / path.name).read_bytes() == expected[path.name] for path in into.iterdir())


def test_a_changed_member_is_noticed(packed: Path, tmp_path: Path) -> None:
    members = contents(packed)
    members["stats.json"] = members["stats.json"].replace(b"uint8", b"uint9")
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", r"damaged or was changed: .*stats\.json")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "stats.json", "project.json", "manifest.json"])
def test_a_missing_member(packed: Path, tmp_path: Path, name: str) -> None:
    members = {key: value for key, value in contents(packed).items() if key != name}
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", f"lacks {name}")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/tmp/evil.json",
        "code/../../evil.py",
        "code/../model.json",
        "code\\..\\..\\evil.py",
        "C:/evil.py",
        "code/a.py/../../b.py",
        "code//a.py",
        "code/.py",
        "code/a.PY",
        "code/a.py\n",
        "stats.json ",
        "extra.txt",
        "code/",
        "code/sub/",
    ],
)
def test_unknown_and_hostile_names(packed: Path, tmp_path: Path, name: str) -> None:
    refuse(rewrite(packed, {**contents(packed), name: b"x"}, manifest=False), tmp_path / "into", "unexpected member")


def test_a_name_with_a_nul(packed: Path, tmp_path: Path) -> None:
    """Python's zipfile cuts names at a NUL: the checked name must be the whole one."""
    path = rewrite(packed, {**contents(packed), "stats.jsonXevil": b"x"}, manifest=False)
    path.write_bytes(path.read_bytes().replace(b"stats.jsonXevil", b"stats.json\x00evil"))
    refuse(path, tmp_path / "into", "unexpected member")


def test_a_member_that_is_there_twice(packed: Path, tmp_path: Path) -> None:
    path = rewrite(packed, contents(packed), manifest=False)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("project.json", b"{}")
    refuse(path, tmp_path / "into", 'it has the member "project.json" twice')


def with_entry(packed: Path, name: str, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Write the bundle with one entry changed before it is written."""
    out = packed.with_name("changed.zip")
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in contents(packed).items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            if member == name:
                change(entry)
            archive.writestr(entry, content)
    return out


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_symbolic_links_and_other_things(packed: Path, tmp_path: Path, kind: int) -> None:
    def change(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = (kind | 0o777) << 16

    refuse(with_entry(packed, "stats.json", change), tmp_path / "into", '"stats.json" is not a plain file')


def test_compressed_members(packed: Path, tmp_path: Path) -> None:
    """So there can be no bomb."""

    def change(entry: zipfile.ZipInfo) -> None:
        entry.compress_type = zipfile.ZIP_DEFLATED

    refuse(with_entry(packed, "stats.json", change), tmp_path / "into", '"stats.json" is compressed')


def central(path: Path, name: str, offset: int, value: bytes) -> Path:
    """Overwrite bytes of a member's entry in the central directory."""
    data = bytearray(path.read_bytes())
    start = data.rindex(name.encode()) - 46
    assert data[start : start + 4] == b"PK\x01\x02"
    data[start + offset : start + offset + len(value)] = value
    out = path.with_name("changed.zip")
    out.write_bytes(bytes(data))
    return out


def test_encrypted_members(packed: Path, tmp_path: Path) -> None:
    refuse(central(packed, "stats.json", 8, b"\x01\x00"), tmp_path / "into", '"stats.json" is encrypted')


def test_sizes_that_the_file_cannot_hold(packed: Path, tmp_path: Path) -> None:
    huge = struct.pack("<II", 3_000_000_000, 3_000_000_000)
    path = central(packed, "model.safetensors", 20, huge)
    refuse(path, tmp_path / "into", r"claim 3,000,0.* bytes, the file has")


def test_a_text_that_is_too_long(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_zip, "MAX_TEXT_BYTES", 100)
    refuse(packed, tmp_path / "into", r'"model\.json" has .* bytes; expected at most 100')


def test_too_many_members(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_zip, "MAX_MEMBERS", 4)
    refuse(packed, tmp_path / "into", "it has 5 members, but a bundle has at most 4")


def test_another_zip_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    refuse(path, tmp_path / "into", 'not a bundle of rvbuild: it has an unexpected member "photo.jpg"')


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "cannot be read as a bundle"),
        (b"[]", r"expected the format"),
        (b"[" * 100_000, "cannot be read as a bundle"),
        (b'{"format": "rvbuild bundle 9", "members": {}}', "found 'rvbuild bundle 9'"),
        (
            b'{"format": "rvbuild bundle 1", "members": {}}',
            r"is not as it was packed: its manifest.json does not list m",
        ),
        (b'{"format": "rvbuild bundle 1", "members": {"a": 1}}', "it lacks a, which its manifest.json lists"),
        (b'{"format": "rvbuild bundle 1"}', "expected the members"),
    ],
)
def test_a_manifest_of_another_form(packed: Path, tmp_path: Path, manifest: bytes, message: str) -> None:
    members = {**contents(packed), "manifest.json": manifest}
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", message)


@pytest.mark.slow
def test_a_directory_larger_than_that_of_a_bundle_is_not_read(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"code/a{number}.py", b"")
    refuse(path, tmp_path / "into", r"its directory would have 1,\d\d\d,\d\d\d bytes, expected at most 1,048,576")


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000])
def test_a_manifest_that_is_nested_deeply(packed: Path, tmp_path: Path, text: bytes) -> None:
    members = {**contents(packed), "manifest.json": text}
    refuse(rewrite(packed, members, manifest=False), tmp_path / "into", "cannot be read as a bundle")
