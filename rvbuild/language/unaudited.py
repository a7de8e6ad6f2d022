"""Reads of user code that Python's audit hooks do not report: environment variables, and files opened in compiled code.

While user code is watched, `os.environ` reports its readers, and the functions that open rasters, vectors and weights
raise an audit event with the path.
"""

from __future__ import annotations

import _collections_abc
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

EVENT = "rvbuild.open"
"""Audit event of a file that compiled code opens for reading; its argument is the path."""

_OPENERS = (("rasterio", "open"), ("fiona", "open"), ("safetensors", "safe_open"))
_COPIES = (("safetensors.torch", "safe_open"),)
"""Modules that have imported such a function by name, if they are loaded."""

_MAPPING_FILES = (os.__file__, _collections_abc.__file__)

Reader = Callable[[str | None, FrameType], None]


def report_files() -> None:
    """Make the functions that open files in compiled code raise the audit event, from now on."""
    for module_name, function_name in _OPENERS:
        _report(importlib.import_module(module_name), function_name)
    for module_name, function_name in _COPIES:
        if module_name in sys.modules:
            _report(sys.modules[module_name], function_name)


def _report(module: Any, name: str) -> None:
    function = getattr(module, name)
    if getattr(function, "reports_files", False):
        return

    @functools.wraps(function)
    def opens(*args: Any, **kwargs: Any) -> Any:
        path = args[0] if args else next(iter(kwargs.values()), None)
        mode = kwargs.get("mode", args[1] if len(args) > 1 else "r")
        if isinstance(path, str | os.PathLike) and mode not in ("w", "w+"):
            for file in files_of(os.fspath(path)):
                sys.audit(EVENT, file)
        return function(*args, **kwargs)

    opens.reports_files = True  # type: ignore[attr-defined]
    setattr(module, name, opens)


def files_of(name: str) -> Iterator[str]:
    """Yield the existing files in the name of a GDAL dataset: a path, a path in an archive, or a part of a file.

    >>> list(files_of("GPKG:/no/such.gpkg:layer"))
    []
    """
    for part in (name, *re.split('[:"]', name)):
        path = Path(re.sub(r"^(/vsi[a-z0-9_]+/|zip\+|zip://|file://)+", "", part.partition("!")[0]))
        file = next((parent for parent in (path, *path.parents) if parent.is_file()), None)
        if file is not None:
            yield str(file)
            return


def report_variables(reader: Reader | None) -> None:
    """Call `reader` with the name and the frame of each direct read of an environment variable; None: no longer.

    The name is None if all variables are read. Only frames of the mapping itself are skipped.
    """
    global _READER
    _READER = reader
    os.environ.__class__ = _PLAIN if reader is None else _Reporting


_READER: Reader | None = None
_PLAIN = type(os.environ)


class _Reporting(_PLAIN):  # type: ignore[valid-type,misc]
    def __getitem__(self, key: str) -> str:
        _read(key)
        value: str = super().__getitem__(key)
        return value

    def __iter__(self) -> Iterator[str]:
        _read(None)
        return iter(super().__iter__())


def is_pythons_own(frame: FrameType) -> bool:
    """Tell whether a frame belongs to the mapping of variables, or to the modules that Python has built in."""
    file = frame.f_code.co_filename
    return file.startswith("<frozen ") or file in _MAPPING_FILES


def _read(name: str | None) -> None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and is_pythons_own(frame):
        frame = frame.f_back
    if frame is not None and _READER is not None:
        _READER(name, frame)
