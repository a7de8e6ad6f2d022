"""The zip of a bundle: written with the same bytes each time, read without trusting it.

Members are stored, not compressed: weights hardly shrink, the bytes do not depend on a version of zlib, and no member
can be larger than the file that it is in.
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import xxhash

from rvbuild.errors import DataError

MANIFEST = "manifest.json"
FORMAT = "rvbuild bundle 1"

CODE_MEMBER = re.compile(r"code/(?:[A-Za-z_]\w*/)*[A-Za-z_]\w*\.py", re.ASCII)
MAX_MEMBERS = 1000
MAX_TEXT_BYTES = 64 << 20
"""The size of a member that is read into memory (JSON, Python) at most."""

CHUNK_BYTES = 1 << 20


def write_zip(path: Path, members: Mapping[str, Path | bytes], advance: Callable[[], None]) -> None:
    """Write a zip of files or texts, sorted by name, and their manifest last.

    Parameters
    ----------
    path
        The file to make.
    members
        The content of each member, or the file that holds it.
    advance
        Called after each member.
    """
    manifest: dict[str, Any] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            content = members[name]
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            with archive.open(_entry(name, size), "w") as out:
                digest = _copy_file(content, out) if isinstance(content, Path) else _copy_bytes(content, out)
            manifest[name] = {"size": size, "xxh3_128": digest}
            advance()
        text = (json.dumps({"format": FORMAT, "members": manifest}, sort_keys=True, indent=2) + "\n").encode()
        with archive.open(_entry(MANIFEST, len(text)), "w") as out:
            out.write(text)


def extract_zip(path: Path, into: Path, required: frozenset[str]) -> list[str]:
    """Extract a bundle after checking every member, and return their names.

    Parameters
    ----------
    path
        The zip.
    into
        An existing directory that receives the members.
    required
        The members that there must be, beside the manifest; Python under `code/` is allowed too, nothing else.

    Raises
    ------
    DataError
        The file cannot be read as a zip, or is not exactly what `write_zip` writes: a member is missing, unknown, there
        twice, not a plain file, compressed, encrypted, too large, or differs from its size or digest in the manifest.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(path, archive, required)
            manifest = _read_manifest(path, archive, entries)
            for name, entry in entries.items():
                if name != MANIFEST:
                    _extract(path, archive, entry, into / name, manifest[name])
    # What zipfile raises on damage and on features it lacks.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as a bundle: {error}. Is the file complete?") from error
    return sorted(set(entries) - {MANIFEST})


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.file_size = size
    return entry


def _copy_bytes(content: bytes, out: IO[bytes]) -> str:
    out.write(content)
    return xxhash.xxh3_128_hexdigest(content)


def _copy_file(path: Path, out: IO[bytes]) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _checked_entries(path: Path, archive: zipfile.ZipFile, required: frozenset[str]) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name if the directory of the zip is that of a bundle."""
    listed = archive.infolist()
    if len(listed) > MAX_MEMBERS:
        raise DataError(f"{path}: is not a bundle: it has {len(listed)} members, a bundle at most {MAX_MEMBERS}")
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        # `filename` is cut at a NUL and has its separators changed; `orig_filename` is what the zip says.
        name = entry.orig_filename
        if name in entries:
            raise DataError(f'{path}: is not a bundle: the member "{name}" is there twice')
        if name not in required | {MANIFEST} and not CODE_MEMBER.fullmatch(name):
            raise DataError(f'{path}: is not a bundle of rvbuild: it has an unexpected member "{name}"')
        if reason := _oddity(entry):
            raise DataError(f'{path}: is not a bundle of rvbuild: the member "{name}" {reason}')
        entries[name] = entry
    if missing := sorted((required | {MANIFEST}) - set(entries)):
        raise DataError(f"{path}: is not a bundle of rvbuild, or incomplete: it lacks {', '.join(missing)}")
    total, on_disk = sum(entry.file_size for entry in listed), path.stat().st_size
    if total > on_disk:
        raise DataError(f"{path}: is not a bundle: its members claim {total:,} bytes, the file has {on_disk:,}")
    return entries


def _oddity(entry: zipfile.ZipInfo) -> str | None:
    """Return what is wrong with an entry of a bundle."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        return "is not a plain file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed; rvbuild stores members as they are"
    if not entry.filename.endswith(".safetensors") and entry.file_size > MAX_TEXT_BYTES:
        return f"has {entry.file_size:,} bytes; expected at most {MAX_TEXT_BYTES:,}"
    return None


def _read_manifest(
    path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]
) -> Mapping[str, tuple[int, str]]:
    """Return size and digest of each member but the manifest itself."""
    content = json.loads(archive.read(entries[MANIFEST]))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise DataError(f'{path}: {MANIFEST}: expected the format "{FORMAT}", found {found!r:.80}')
    members = content.get("members")
    names = set(entries) - {MANIFEST}
    if not isinstance(members, dict) or set(members) != names:
        raise DataError(f"{path}: {MANIFEST}: expected exactly the members {', '.join(sorted(names))}")
    manifest = {}
    for name, claim in members.items():
        if not isinstance(claim, dict) or set(claim) != {"size", "xxh3_128"}:
            raise DataError(f"{path}: {MANIFEST}: {name}: expected size and xxh3_128")
        manifest[name] = (claim["size"], claim["xxh3_128"])
    return manifest


def _extract(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, claim: tuple[int, str]
) -> None:
    """Extract one member and compare it with the manifest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = xxhash.xxh3_128(), 0
    with archive.open(entry) as member, target.open("xb") as out:
        while chunk := member.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
    if (size, digest.hexdigest()) != claim:
        raise DataError(
            f'{path}: is damaged or was changed: the member "{entry.filename}" is not what {MANIFEST} says; '
            "get the bundle again from where it came"
        )
