"""Signatures of JSON data: HMAC-SHA256 with a secret key.

There are two keys. The key of a user is created when it is first needed and kept outside of all workspaces; it
distinguishes the user's own caches from others. The other key is shared by the users of a remote store.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvbuild.errors import UsageError

SIGNATURE = "signature"
_KEY_BYTES = 32
_LEAST_LETTERS = 16
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def signed(data: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """Return `data` with a signature, which replaces an earlier one."""
    return {**data, SIGNATURE: _signature(data, key)}


def signed_text(data: Mapping[str, Any], key: bytes) -> bytes:
    """Return `signed(data, key)` as JSON, which is encoded once; `data` is not empty and has no signature."""
    text = _encode(data).encode()
    return text[:-1] + f',"{SIGNATURE}":"{_signature_of(text, key)}"}}'.encode()


def is_signed(data: Mapping[str, Any], key: bytes) -> bool:
    """Tell whether `data` has a valid signature by `key`."""
    import hmac

    signature = data.get(SIGNATURE)
    try:
        return isinstance(signature, str) and hmac.compare_digest(signature.encode(), _signature(data, key).encode())
    except (ValueError, TypeError, RecursionError):
        return False


def _signature(data: Mapping[str, Any], key: bytes) -> str:
    unsigned = {name: value for name, value in data.items() if name != SIGNATURE}
    return _signature_of(_encode(unsigned).encode(), key)


def _signature_of(text: bytes, key: bytes) -> str:
    import hashlib  # imported late: most runs have nothing to sign
    import hmac

    return "hmac-sha256:" + hmac.new(key, text, hashlib.sha256).hexdigest()


def shared_key(variable: str) -> bytes | None:
    """Return the key in the environment variable, or None if it is not set.

    Raises
    ------
    UsageError
        The key is so short that it can be guessed.
    """
    text = os.environ.get(variable, "")
    if 0 < len(text) < _LEAST_LETTERS:
        raise UsageError(
            f"{variable}: expected a secret of at least {_LEAST_LETTERS} letters, found {len(text)}; "
            "make one with `openssl rand -hex 32`"
        )
    return os.fsencode(text) or None


def user_key() -> bytes | None:
    """Return the key of the user, created if needed; None if it cannot be stored."""
    path = _key_file()
    if path is None:
        return None
    with contextlib.suppress(OSError):
        return _read(path) or _make(path)
    return None


def _key_file() -> Path | None:
    folder = state_folder()
    return None if folder is None else folder / "key"


def state_folder() -> Path | None:
    """Return the directory for the user's files that belong to no workspace; None without a home directory."""
    configured = os.environ.get("XDG_STATE_HOME", "")
    if Path(configured).is_absolute():
        return Path(configured, "rvbuild")
    try:
        return Path.home() / ".local" / "state" / "rvbuild"
    except RuntimeError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        key = file.read(_KEY_BYTES + 1) if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() else b""
    return key if len(key) == _KEY_BYTES else None


def _make(path: Path) -> bytes | None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):  # another process was faster; its key is used
            os.link(temporary, path)
    finally:
        temporary.unlink()
    return _read(path)
