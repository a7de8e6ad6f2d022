"""The directory of a model repository: whether one may be written there, and how it becomes a bundle again.

It holds the members of a bundle as files, with a manifest of them. What else is there belongs to the hub or to the
user: the card, `config.json`, licences, pictures.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rvbuild.errors import DataError, UsageError
from rvbuild.stages.bundle.zip import CODE_MEMBER, EXTRAS, FORMAT, MANIFEST, MAX_TEXT_BYTES, sha256, write_zip

CONFIG = "config.json"
"""The file by which the hub counts downloads; it also tells that a directory is ours."""

MODEL_TYPE = "rvbuild"

MEMBERS = frozenset({"model.safetensors", "model.json", "stats.json", "project.json"})

_OF_GIT = (".git", ".gitattributes", ".gitignore", ".cache")
"""What a clone of an empty repository holds."""


def is_repository(path: Path) -> bool:
    """Tell whether a path is a directory with the members of a bundle."""
    return path.is_dir() and (path / MANIFEST).is_file()


def require_ours(folder: Path) -> None:
    """Require a directory that a repository may be written to: missing, empty, or one that was written before.

    Raises
    ------
    UsageError
        It is something else.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise UsageError(f"--hf {folder}: is not a directory; name a new one")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in _OF_GIT)
    if others and config_of(folder).get("model_type") != MODEL_TYPE:
        raise UsageError(
            f"--hf {folder}: has other files ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}) and is no "
            "model repository that rvbuild has written; name a new or an empty directory"
        )


def config_of(folder: Path) -> dict[str, Any]:
    """Return the content of the `config.json` of a directory; empty without one."""
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def as_bundle(path: Path) -> Iterator[Path]:
    """Yield a bundle: the path itself, or the zip of a directory with the members of one, for the length of a block.

    Raises
    ------
    DataError
        A member of the directory is missing, or is not the one in its manifest.
    """
    if not is_repository(path):
        yield path
        return
    members = _members(path)
    with tempfile.TemporaryDirectory(prefix="rvbuild-repository-") as into:
        # Whoever predicts names results and messages by the bundle.
        bundle = Path(into) / f"{path.resolve().name}.zip"
        write_zip(bundle, members, lambda: None)
        yield bundle


def _members(folder: Path) -> dict[str, Path | bytes]:
    """Return the files of a directory that its manifest lists, each compared with its digest."""
    where = folder / MANIFEST
    try:
        if where.stat().st_size > MAX_TEXT_BYTES:
            raise DataError(f"{where}: is too large")
        content = json.loads(where.read_text(encoding="utf-8"))
        listed = dict(content["members"])
        ours = content["format"] == FORMAT and MEMBERS <= set(listed) <= set(filter(_is_member, listed))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: is not the manifest of a bundle: {error}") from error
    if not ours:
        raise DataError(f'{where}: is not the manifest of a bundle; expected the format "{FORMAT}"')
    members: dict[str, Path | bytes] = {}
    for name, claim in listed.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{folder}: is incomplete: it lacks {name}; with git, run `git lfs pull`")
        if not isinstance(claim, dict) or claim.get("sha256") != sha256(path):
            raise DataError(
                f"{path}: is damaged or was changed: it does not match {MANIFEST}. Get it again; large files of a "
                "clone without `git lfs pull` are stand-ins"
            )
        members[name] = path
    return members


def _is_member(name: str) -> bool:
    return name in MEMBERS | EXTRAS or CODE_MEMBER.fullmatch(name) is not None
