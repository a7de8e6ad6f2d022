"""The watch over users' own code: it may only read what is in the key, because other changes would go unnoticed.

Python reports every file that it opens and every directory that it lists to an audit hook; `rvbuild.language.unaudited`
reports rasters, vectors, weights and environment variables. Only what a user's function reads counts, directly or
through a library; variables count only if it reads them itself. Files that other libraries open in compiled code are
not reported.
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
from typing import NoReturn

from rvbuild.errors import CodeError
from rvbuild.language import unaudited

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
    """Watches what the user's code reads, while it is active.

    Parameters
    ----------
    workspace : str
        Root: files below it that are not part of the key are refused; others are recorded in `outside`.
    code : iterable of str
        The files of the user's code.
    allowed : iterable of str
        Other files and directories that are part of the key, or that are not inputs, such as the outputs of the stage.
    listed : iterable of str
        Directories whose entries are part of the key.
    variables : iterable of str
        Environment variables that are part of the key.
    """

    def __init__(
        self,
        workspace: str,
        code: Iterable[str],
        allowed: Iterable[str],
        listed: Iterable[str] = (),
        variables: Iterable[str] = (),
    ) -> None:
        self._workspace = os.path.realpath(workspace)
        self._code = frozenset(code)
        self._allowed = frozenset(os.path.realpath(path) for path in (*self._code, *allowed))
        self._listed = frozenset(map(os.path.realpath, listed))
        self._variables = frozenset(variables)
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
        caller = self._caller_of(full)
        if caller is None or not Path(full).is_file():
            return
        if full.endswith(".pyc"):
            full = _source_of(full)
            if self._is_allowed(full):
                return
        if self._is_outside(full):
            return
        shown = os.path.relpath(full, self._workspace)
        self._refuse(
            f"{self._shown(caller)} reads {shown}, which is not part of any key, so edits of it would go unnoticed: "
            f'add it to `depends` in [project], for example depends = ["{shown}"]'
        )

    def listed(self, path: str) -> None:
        """Check a directory whose entries are listed.

        Raises
        ------
        CodeError
            The user's code lists it, but new files in it would go unnoticed.
        """
        full = os.path.realpath(path)
        caller = None if full in self._listed else self._caller_of(full)
        if caller is None or self._is_outside(full):
            return
        shown = os.path.relpath(full, self._workspace)
        self._refuse(
            f"{self._shown(caller)} lists the directory {shown}, which is not part of any key, so new files in it "
            f'would go unnoticed: add them to `depends` in [project], for example depends = ["{Path(shown) / "*"}"]'
        )

    def variable(self, name: str | None, reader: FrameType) -> None:
        """Check an environment variable that the function of the frame `reader` reads; None for all variables.

        Raises
        ------
        CodeError
            The reader is the user's code, but other values would go unnoticed.
        """
        caller = reader.f_code.co_filename
        if caller not in self._code or name in self._variables:
            return
        if name is None:
            self._refuse(
                f"{self._shown(caller)} reads all environment variables, which are not part of any key, so changes of "
                "them would go unnoticed: read those that it needs by their names"
            )
        self._refuse(
            f"{self._shown(caller)} reads the environment variable {name}, which is not part of any key, so changes of "
            f'it would go unnoticed: write the name as one string where it is read, for example os.environ["{name}"]'
        )

    def _refuse(self, message: str) -> NoReturn:
        self.refused.append(message)
        raise CodeError(message)

    def _caller_of(self, full: str) -> str | None:
        """Return the file of the user's code that reads a path outside of the key; None if it may, or another does."""
        return None if self._is_allowed(full) or self._is_no_input(full) else _caller(self._code)

    def _is_outside(self, full: str) -> bool:
        """Tell whether a path is outside of the workspace, and record it then."""
        outside = not is_inside(full, self._workspace)
        if outside:
            self.outside.setdefault(full)
        return outside

    def _is_no_input(self, full: str) -> bool:
        """Tell whether a path belongs to an installed package or, outside of the workspace, to the system."""
        if is_installed(full, self._folders):
            return True
        return not is_inside(full, self._workspace) and any(is_inside(full, folder) for folder in self._unwatched)

    def _is_allowed(self, full: str) -> bool:
        return full in self._allowed or str(Path(full).parent) in self._allowed

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self._workspace) if is_inside(path, self._workspace) else path


def watching(watch: Watch | None) -> None:
    """Make `watch` the active watcher; None: no watcher."""
    global _WATCH, _HOOKED
    _WATCH = watch
    unaudited.report_variables(None if watch is None else watch.variable)
    if watch is not None:
        unaudited.report_files()
    if watch is not None and not _HOOKED:
        _HOOKED = True
        sys.addaudithook(_hook)  # audit hooks cannot be removed


_WATCH: Watch | None = None
_HOOKED = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _WATCH is None:
        return
    if event in _LISTS:
        path = _text(args[0] or os.curdir)
        if path is not None and not sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):
            _WATCH.listed(path)
    elif event in _OPENS:
        path = _OPENS[event](args)
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


_LISTS = ("os.listdir", "os.scandir")

_OPENS: dict[str, Callable[[tuple[object, ...]], str | None]] = {
    "open": _opened,
    "sqlite3.connect": lambda args: _text(args[0]),
    "ctypes.dlopen": lambda args: _text(args[0]),
    unaudited.EVENT: lambda args: _text(args[0]),
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
