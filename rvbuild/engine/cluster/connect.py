"""The connection to a cluster at the address of a scheduler, and what its workers must have."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import platform
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rvbuild
from rvbuild.engine.run.workers import Interrupted
from rvbuild.errors import StageError, UsageError

VARIABLE = "RVBUILD_CLUSTER"
_EXPECTED = "expected local:N, such as local:4, or the address of a Dask scheduler, such as tcp://10.0.0.5:8786"
_TIMEOUT_S = 6
#: How long a scheduler may take to start. Scripts start it and the build at the same time.
_START_S = 30.0
_TRY_EVERY_S = 0.5
_LOCAL = re.compile(r"local:(\d{1,4})")
_REMOTE = re.compile(r"(tcp|tls|ucx|ws|wss)://[^/\s]+:\d+/?")


def require_address(text: str, origin: str) -> None:
    """Check the address of a cluster, and that Dask is installed.

    Parameters
    ----------
    text
        The address.
    origin
        Where it comes from, for messages.

    Raises
    ------
    UsageError
    """
    local = _LOCAL.fullmatch(text)
    if not (local and int(local[1]) > 0) and not _REMOTE.fullmatch(text):
        raise UsageError(f"{origin}: {text!r} names no cluster; {_EXPECTED}")
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(f"{origin}: needs Dask.distributed, which is not installed: pip install 'rvbuild[dask]'")


def workers_here(text: str) -> int:
    """Return the number of workers that `local:N` starts here; 0 for an address."""
    local = _LOCAL.fullmatch(text)
    return int(local[1]) if local else 0


def connected(text: str, closing: contextlib.ExitStack, note: Callable[[str], None], stopped: threading.Event) -> Any:
    """Return a client of the scheduler at an address; `closing` ends the connection.

    A scheduler that was started just before, or whose name is not known yet, is awaited; `note` is told.

    Raises
    ------
    UsageError
        There is no scheduler at the address.
    Interrupted
        `stopped` ended the wait.
    """
    dask: Any = importlib.import_module("distributed")  # without types
    try:
        if text.startswith(("tcp://", "tls://")):  # Dask tries again and again if nobody listens
            _wait_for_listener(text, note, stopped)
        client = dask.Client(text, timeout=_TIMEOUT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"{text}: no Dask scheduler answers there ({_last_line(error)}); {_EXPECTED}. Is it running, and can this "
            "machine reach it?"
        ) from None
    closing.callback(close_quietly, client, 5)
    return client


def _wait_for_listener(text: str, note: Callable[[str], None], stopped: threading.Event) -> None:
    place = urllib.parse.urlsplit(text)
    until, noted = time.monotonic() + _START_S, False
    while True:
        try:
            socket.create_connection((place.hostname, place.port), timeout=_TIMEOUT_S).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
        if not noted:
            noted = True
            note(f"{text}: nobody answers there yet: waiting for up to {_START_S:.0f} s …")
        if stopped.wait(_TRY_EVERY_S):
            raise Interrupted


def close_quietly(part: Any, timeout_s: float) -> None:
    """Close a client or a cluster of Dask within a time; nothing depends on it."""
    with contextlib.suppress(Exception):
        part.close(timeout=timeout_s)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def require_same_versions(client: Any, ask: Callable[..., Any]) -> None:
    """Check that all workers run the same rvbuild on the same Python as this process; `ask` calls a function.

    Workers that are lost meanwhile do not count: what joins later is checked when it joins.

    Raises
    ------
    StageError
    """
    pythons = ask(client.run, platform.python_version, on_error="return")
    hosts = ask(client.run, socket.gethostname, on_error="return")
    codes = ask(client.run, code_digest, on_error="return")
    problems: dict[str, None] = {}
    for address, theirs in codes.items():
        if isinstance(pythons.get(address), str) and isinstance(hosts.get(address), str):
            problem = other_version(pythons[address], None if isinstance(theirs, ImportError) else theirs)
            if problem is not None and not isinstance(theirs, OSError | TimeoutError):
                problems[f"{hosts[address]} {problem}"] = None
    if problems:
        raise StageError("workers of the cluster cannot build this:\n  " + "\n  ".join(problems))


def other_version(python: str, code: object, expected: tuple[str, str] | None = None) -> str | None:
    """Return why a worker with a version of Python and a digest of rvbuild's code cannot build this; None if it can.

    `expected` has those of the driver, by default this process.
    """
    ours, digest = expected or version_here()
    minor, minor_here = python.split(".")[:2], ours.split(".")[:2]
    if minor != minor_here:
        return f"has Python {python}; expected {'.'.join(minor_here)}, as the driver has"
    if code is None:
        return f"has no rvbuild; install rvbuild {rvbuild.__version__} there"
    return None if code == digest else "has other code of rvbuild than the driver"


def version_here() -> tuple[str, str]:
    """Return the version of Python, and the digest of rvbuild's code."""
    return platform.python_version(), code_digest()


@functools.cache
def code_digest() -> str:
    """Return a digest of the modules of rvbuild."""
    root = Path(rvbuild.__file__).parent
    state = hashlib.blake2b(digest_size=16)
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        for name in sorted(name for name in names if name.endswith(".py")):
            path = Path(folder, name)
            state.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return state.hexdigest()


def quiet() -> None:
    """Let Dask not print what the driver reports itself."""
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
