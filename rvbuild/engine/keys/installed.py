"""rvbuild's own files, however it is installed: from a wheel, editable, in a zip archive, or run from a checkout.

The code of a stage consists of these files only: nothing of site-packages is read, and the names of the files are the
same in every kind of installation.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

from rvbuild.engine.keys.code import Import, parse

_PACKAGE = "rvbuild"
_SKIPPED = "__pycache__"


@functools.cache
def files() -> Mapping[str, Traversable]:
    """Return every file of the package by its name from the directory that holds it: `rvbuild/stages/predict.py`."""
    return dict(_walk(_package(), _PACKAGE))


def shipped(name: str) -> Traversable:
    """Return a folder or file that is inside the package in a wheel and beside it in a checkout, such as `projects`."""
    package = _package()
    inside = package.joinpath(name)
    return Path(str(package)).parent / name if not (inside.is_dir() or inside.is_file()) else inside


def is_checkout() -> bool:
    """Tell whether rvbuild runs from its repository, where its code may be edited."""
    return not _package().joinpath("projects").is_dir()


def _package() -> Traversable:
    return importlib.resources.files(_PACKAGE)


def on_disk() -> list[Path]:
    """Return the files to watch for changes of the installation: all files, or the archive that contains them."""
    package = _package()
    if not isinstance(package, Path):
        return [next(p for p in Path(str(package)).parents if p.is_file())]
    return [file for file in files().values() if isinstance(file, Path)]


def closure(module: str) -> list[str]:
    """Return the names of the files that importing `module` may execute, sorted; none if it does not belong to rvbuild.

    Imports are followed anywhere in a file; a package's `__init__` counts for everything inside it.
    """
    names: set[str] = set()
    pending, seen = [module], set()
    while pending:
        dotted = pending.pop()
        if dotted in seen:
            continue
        seen.add(dotted)
        name = _file_of(dotted)
        if name is None:
            continue
        names.add(name)
        if dotted == _PACKAGE:
            continue  # its names are lazy, and no stage uses them
        parent = dotted.rpartition(".")[0]
        pending += [parent] if parent else []
        package = dotted if name.endswith("/__init__.py") else parent
        pending += [imported for statement in _parsed(name)[1] for imported in statement.names(package)]
    return sorted(names)


def modules(package: str) -> list[str]:
    """Return the dotted names of all modules of `package`, itself included."""
    prefix = package.replace(".", "/") + "/"
    names = (name for name in files() if name.startswith(prefix) and name.endswith(".py"))
    return sorted(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in names)


def digest_of(name: str) -> str:
    """Return the digest of a file: of the syntax tree of a module, of the bytes of any other file."""
    return _parsed(name)[0]


def _file_of(dotted: str) -> str | None:
    base = dotted.replace(".", "/")
    return next((name for name in (f"{base}/__init__.py", f"{base}.py") if name in files()), None)


@functools.cache
def _parsed(name: str) -> tuple[str, tuple[Import, ...]]:
    return parse(files()[name].read_bytes(), is_code=name.endswith(".py"))


def _walk(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        inside = f"{name}/{entry.name}"
        if entry.is_file():
            if not entry.name.endswith(".pyc"):
                yield inside, entry
        elif entry.name != _SKIPPED:
            yield from _walk(entry, inside)


def without_release(names: Iterable[str]) -> list[str]:
    """Return `names` without the package's `__init__`, which holds the version of the release."""
    return [name for name in names if name != f"{_PACKAGE}/__init__.py"]
