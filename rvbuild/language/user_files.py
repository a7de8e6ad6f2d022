"""Files that users' own code opens: files outside of the key are refused, because their edits would go unnoticed.

Python reports every file that it opens to an audit hook. Only files that a user's function opens count, directly or
through a library. Files that a library opens in compiled code, as GDAL does, are not reported.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FrameType

from rvbuild.errors import CodeError

_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/var/lib")


def site_folders() -> tuple[str, ...]:
    """Return the directories of Python and of installed packages, as real paths."""
    paths = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    return tuple(dict.fromkeys(map(os.path.realpath, paths)))


def is_installed(path: str, folders: Collection[str] = ()) -> bool:
    """Tell whether a file belongs to Python or to an installed package, wherever the environment is."""
    real = os.path.realpath(path)
    parts = Path(real).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    return any(is_inside(real, folder) for folder in folders or site_folders())


def is_inside(path: str, folder: str) -> bool:
    """Tell whether `path` is `folder` or below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class Watch:
    """Watches which files the user's code opens, while it is active.

    Parameters
    ----------
    workspace : str
        Root: files below it that are not part of the key are refused; others are recorded in `outside`.
    code : iterable of str
        The files of the user's code.
    allowed : iterable of str
        Other files and directories that are part of the key, or that are not inputs, such as the outputs of the stage.
    """

    def __init__(self, workspace: str, code: Iterable[str], allowed: Iterable[str]) -> None:
        self._workspace = os.path.realpath(workspace)
        self._code = frozenset(code)
        self._allowed = frozenset(os.path.realpath(path) for path in (*self._code, *allowed))
        self._folders = site_folders()
        self._unwatched = (
            *map(os.path.realpath, (*_SYSTEM, tempfile.gettempdir(), sys.prefix, sys.base_prefix)),
            str(Path(__file__).resolve().parents[1]),
        )
        self.refused: list[str] = []
        self.outside: dict[str, None] = {}

    def opened(self, path: str) -> None:
        """Check a file that is opened for reading.

        Raises
        ------
        CodeError
            The user's code opens it, but edits of it would go unnoticed.
        """
        full = os.path.realpath(path)
        if self._is_allowed(full) or is_installed(full, self._folders):
            return
        inside = is_inside(full, self._workspace)
        if not inside and any(is_inside(full, folder) for folder in self._unwatched):
            return
        if not Path(full).is_file():
            return
        caller = _caller(self._code)
        if caller is None:
            return
        if full.endswith(".pyc"):
            full = _source_of(full)
            if self._is_allowed(full):
                return
        if not inside:
            self.outside.setdefault(full)
            return
        shown = os.path.relpath(full, self._workspace)
        message = (
            f"{self._shown(caller)} reads {shown}, which is not part of any key, so edits of it would go unnoticed: "
            f'add it to `depends` in [project], for example depends = ["{shown}"]'
        )
        self.refused.append(message)
        raise CodeError(message)

    def _is_allowed(self, full: str) -> bool:
        return full in self._allowed or str(Path(full).parent) in self._allowed

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self._workspace) if is_inside(path, self._workspace) else path


def watching(watch: Watch | None) -> None:
    """Make `watch` the active watcher; None: no watcher."""
    global _WATCH, _HOOKED
    _WATCH = watch
    if watch is not None and not _HOOKED:
        _HOOKED = True
        sys.addaudithook(_hook)  # audit hooks cannot be removed


_WATCH: Watch | None = None
_HOOKED = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _WATCH is None or event not in _EVENTS:
        return
    path = _EVENTS[event](args)
    if path is not None:
        _WATCH.opened(path)


def _opened(args: tuple[object, ...]) -> str | None:
    path, mode, flags = args
    if isinstance(mode, str):
        writes = bool({"w", "x"} & set(mode)) or ("a" in mode and "+" not in mode)
    else:
        writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_EXCL | os.O_TRUNC))
    return None if writes else _text(path)


def _text(path: object) -> str | None:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None


_EVENTS: dict[str, Callable[[tuple[object, ...]], str | None]] = {
    "open": _opened,
    "sqlite3.connect": lambda args: _text(args[0]),
    "ctypes.dlopen": lambda args: _text(args[0]),
}


def _caller(code: Collection[str]) -> str | None:
    """Return the file of the user's code on the current call stack, if there is one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename in code:
            return frame.f_code.co_filename
        frame = frame.f_back
    return None


def _source_of(bytecode: str) -> str:
    try:
        return os.path.realpath(importlib.util.source_from_cache(bytecode))
    except ValueError:
        return bytecode
