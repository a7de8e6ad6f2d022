"""The zip of a bundle: written with the same bytes each time, read without trusting it.

Members are stored, not compressed: weights hardly shrink, the bytes do not depend on a version of zlib, and no member
can be larger than the file that it is in. The manifest has the SHA-256 of each: xxh3, which earlier bundles have, shows
damage and not forgery.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import xxhash

from rvbuild.errors import DataError
from rvbuild.learn.model_files import ONNX, ONNX_WEIGHTS

MANIFEST = "manifest.json"
FORMAT = "rvbuild bundle 2"

DIGESTS: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "rvbuild bundle 1": ("xxh3_128", xxhash.xxh3_128),
    FORMAT: ("sha256", hashlib.sha256),
}
"""The formats that are read, and the digest of members in each."""

EXTRAS = frozenset({ONNX, ONNX_WEIGHTS, "selftest.safetensors", "model.stac.json", "README.md"})
"""Members that a bundle may have besides the required ones, if it was made with `bundle.onnx`."""

CODE_MEMBER = re.compile(r"code/(?:[A-Za-z_]\w*/)*[A-Za-z_]\w*\.py", re.ASCII)
MAX_MEMBERS = 1000
MAX_TEXT_BYTES = 64 << 20
"""The size of a member that is read into memory (JSON, Python) at most."""

CHUNK_BYTES = 1 << 20

MAX_DIRECTORY_BYTES = 1 << 20
"""The size of the zip's own directory at most: zipfile reads all of it."""


class Manifest(NamedTuple):
    """The manifest entry of a member."""

    format: str
    members: Mapping[str, tuple[int, str]]
    """Size and digest by name."""
    sha256: str
    """Digest of the manifest, which covers the whole bundle."""


class _Limited(io.BufferedReader):
    """A file whose reads are limited to `most` bytes, as long as there is a limit."""

    most: int | None = MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does."""
        if self.most is not None and size is not None and size > self.most:
            raise zipfile.BadZipFile(f"its directory would have {size:,} bytes, expected at most {self.most:,}")
        return super().read(size)


def write_zip(path: Path, members: Mapping[str, Path | bytes], advance: Callable[[], None]) -> None:
    """Write a zip of files or texts, sorted by name, and their manifest last.

    Parameters
    ----------
    path
        The file to make.
    members
        The content of each member, or its file.
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
            manifest[name] = {"size": size, "sha256": digest}
            advance()
        text = (json.dumps({"format": FORMAT, "members": manifest}, sort_keys=True, indent=2) + "\n").encode()
        with archive.open(_entry(MANIFEST, len(text)), "w") as out:
            out.write(text)


def extract_zip(
    path: Path, into: Path, required: frozenset[str], require: Callable[[Manifest], None] | None = None
) -> list[str]:
    """Extract a bundle after checking every member, and return their names.

    Parameters
    ----------
    path
        The zip.
    into
        An existing directory that receives the members.
    required
        The required members, besides the manifest; `EXTRAS` and Python files under `code/` are also allowed.
    require
        Is called with the manifest before anything is extracted, and raises if it is not trusted.

    Raises
    ------
    DataError
        The file cannot be read as a zip, or is not exactly what `write_zip` writes: a member is missing, unknown, there
        twice, not a plain file, compressed, encrypted, too large, or differs from its size or digest in the manifest.
    """
    try:
        with _Limited(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            file.most = None  # its members are bounded one by one
            entries = _checked_entries(path, archive, required)
            manifest = _read_manifest(path, archive, entries)
            if require is not None:
                require(manifest)
            for name, entry in entries.items():
                if name != MANIFEST:
                    _extract(path, archive, entry, into / name, manifest)
    # Exceptions of zipfile for damage and unsupported features.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as a bundle: {error}. Is the file complete?") from error
    return sorted(set(entries) - {MANIFEST})


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which may be larger than the memory, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.file_size = size
    return entry


def _copy_bytes(content: bytes, out: IO[bytes]) -> str:
    out.write(content)
    return hashlib.sha256(content).hexdigest()


def _copy_file(path: Path, out: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _checked_entries(path: Path, archive: zipfile.ZipFile, required: frozenset[str]) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name if the directory of the zip is that of a bundle."""
    listed = archive.infolist()
    if len(listed) > MAX_MEMBERS:
        raise DataError(
            f"{path}: is not a bundle: it has {len(listed)} members, but a bundle has at most {MAX_MEMBERS}"
        )
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        # `filename` is cut at a NUL and has its separators changed; `orig_filename` is the original.
        name = entry.orig_filename
        if name in entries:
            raise DataError(f'{path}: is not a bundle: it has the member "{name}" twice')
        if name not in required | EXTRAS | {MANIFEST} and not CODE_MEMBER.fullmatch(name):
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
        return "is compressed; rvbuild stores members uncompressed"
    if not entry.filename.endswith((".safetensors", ONNX, ONNX_WEIGHTS)) and entry.file_size > MAX_TEXT_BYTES:
        return f"has {entry.file_size:,} bytes; expected at most {MAX_TEXT_BYTES:,}"
    return None


def _read_manifest(path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> Manifest:
    """Return the manifest's entries of all other members."""
    text = archive.read(entries[MANIFEST])
    content = json.loads(text)
    version = content.get("format") if isinstance(content, dict) else content
    if not isinstance(content, dict) or not isinstance(version, str) or version not in DIGESTS:
        raise DataError(f'{path}: {MANIFEST}: expected the format "{FORMAT}", found {version!r:.80}')
    kind = DIGESTS[version][0]
    members = content.get("members")
    names = set(entries) - {MANIFEST}
    if not isinstance(members, dict):
        raise DataError(f"{path}: {MANIFEST}: expected the members {', '.join(sorted(names))}")
    if lost := sorted(set(members) - names):
        raise DataError(f"{path}: is incomplete: it lacks {', '.join(lost):.200}, which its {MANIFEST} lists")
    if added := sorted(names - set(members)):
        raise DataError(f"{path}: is not as it was packed: its {MANIFEST} does not list {', '.join(added)}")
    manifest = {}
    for name, claim in members.items():
        if not isinstance(claim, dict) or set(claim) != {"size", kind}:
            raise DataError(f"{path}: {MANIFEST}: {name}: expected size and {kind}")
        manifest[name] = (claim["size"], claim[kind])
    return Manifest(version, manifest, hashlib.sha256(text).hexdigest())


def _extract(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, manifest: Manifest) -> None:
    """Extract one member and compare it with the manifest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = DIGESTS[manifest.format][1](), 0
    with archive.open(entry) as member, target.open("xb") as out:
        while chunk := member.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
    if (size, digest.hexdigest()) != manifest.members[entry.filename]:
        raise DataError(
            f'{path}: is damaged or was changed: the member "{entry.filename}" does not match {MANIFEST}; '
            "get the bundle again from its source"
        )
