"""Data files that a module names in its source and probably reads: tables beside it, parameters in the workspace.

These files become part of keys. Extra files do no harm. A file that is read but was not found here is refused when
it is opened (`rvbuild.language.user_files`) and must be listed in the project.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

_MOST = 1000
"""A pattern that matches more files than this does not name tables of a module."""

_LONGEST = 255
_PATTERN = re.compile(r"[\w./ -]*\*[\w.*-]*\.\w+")
_CODE = (".py", ".pyc", ".pyi")


def texts(tree: ast.AST) -> tuple[str, ...]:
    """Return the strings in a syntax tree that may name files, including those that are joined to paths.

    The name of a file that is only written, such as a log, does not count: it is not an input.

    >>> sorted(texts(ast.parse("open(HERE / 'tables' / 'a.json')")))
    ['a.json', 'tables', 'tables/a.json']
    >>> texts(ast.parse("open('log.txt', mode='a')"))
    ('a',)
    """
    strings: dict[str, None] = {}
    nodes = list(ast.walk(tree))
    written = {id(inner) for node in nodes if (path := _written(node)) for inner in ast.walk(path)}
    for node in nodes:
        if id(node) in written:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.setdefault(node.value)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
            strings.setdefault("/".join(part.strip("/") for part in _joined(node)))
        elif isinstance(node, ast.Call):
            strings.setdefault("/".join(part.strip("/") for part in _constants(reversed(node.args))))
    return tuple(text for text in strings if _may_name(text))


def _written(node: ast.AST) -> ast.AST | None:
    """Return the expression that names the file which a call opens only for writing; None for any other call."""
    if not isinstance(node, ast.Call):
        return None
    function, args = node.func, list(node.args)
    method = isinstance(function, ast.Attribute) and not isinstance(function.value, ast.Name)  # not `io.open`
    if isinstance(function, ast.Attribute) and method:
        name, path = function.attr, function.value
    elif isinstance(function, ast.Name) and args:
        name, path = function.id, args.pop(0)
    else:
        return None
    if method and name in ("write_text", "write_bytes"):
        return path
    modes = [*args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    only = [mode for mode in modes if isinstance(mode, ast.Constant) and _WRITES.fullmatch(str(mode.value))]
    return path if name == "open" and only else None


_WRITES = re.compile("[wax][bt]?")
"""Modes that do not read the file."""


def _joined(node: ast.AST) -> list[str]:
    """Return the constant parts at the end of `a / "b" / "c"`."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if not isinstance(node, ast.BinOp):
        return []
    right = _joined(node.right) if isinstance(node.right, ast.Constant) else []
    return [*_joined(node.left), *right] if right else []


def _constants(backwards: Iterable[ast.AST]) -> list[str]:
    parts: list[str] = []
    for node in backwards:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            break
        parts.insert(0, node.value)
    return parts if len(parts) > 1 else []


def _may_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isprintable() and text.strip("./ ") != ""


def named(module: Path, names: Collection[str], bases: Iterable[Path]) -> tuple[set[Path], set[Path]]:
    """Return the existing files that the strings of a module name, and the directories that patterns search.

    Parameters
    ----------
    module : Path
    names : collection of str
        Strings in its source.
    bases : iterable of Path
        Base directories of relative paths: the directory of the module, the workspace.
    """
    start = [Path(base) for base in bases]
    inner = [folder for base in start for name in names if (folder := _folder(base, name)) is not None]
    folders_to_search = list(dict.fromkeys([*start, *inner]))
    files: set[Path] = set()
    folders: set[Path] = set()
    for name in names:
        if name.startswith(".") and "/" not in name and name.strip("."):
            files |= _existing([module.with_suffix("." + name.strip("."))])
        if "*" in name:
            for path, folder in _matching(name, folders_to_search):
                folders.add(folder)
                files |= _existing([path] if path else [])
        else:
            files |= _existing(Path(os.path.normpath(base / name)) for base in folders_to_search)
    return files, folders


def _folder(base: Path, name: str) -> Path | None:
    if "*" in name or name.startswith("/"):
        return None
    folder = Path(os.path.normpath(base / name))
    return folder if folder != base and folder.is_dir() else None


def _matching(pattern: str, bases: Iterable[Path]) -> Iterator[tuple[Path | None, Path]]:
    """Yield (file, directory) of each file that matches a pattern, and (None, directory) of each searched directory."""
    if not _PATTERN.fullmatch(pattern) or "**" in pattern or "*" in str(Path(pattern).parent):
        return
    for base in bases:
        folder = Path(os.path.normpath(base / Path(pattern).parent))
        if not folder.is_dir():
            continue
        yield None, folder
        matching = sorted(folder.glob(Path(pattern).name))
        if len(matching) <= _MOST:
            yield from ((path, folder) for path in matching)


def _existing(paths: Iterable[Path]) -> set[Path]:
    existing = set()
    for path in paths:
        try:
            if path.is_file() and path.suffix not in _CODE:
                existing.add(path)
        except (OSError, ValueError):
            continue
    return existing
