"""Python code as an input: digests of syntax trees, and which files of a package a module rests on."""

from __future__ import annotations

import ast
import functools
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from rvbuild.build.syntax import tree_text

RACY_NS = 1_000_000_000
"""What was changed so lately may change again without looking changed."""


class Import(NamedTuple):
    """One statement: `from base import parts`, from so many packages up; the empty part is the base itself."""

    level: int
    base: str
    parts: tuple[str, ...]

    def names(self, package: str) -> Iterator[str]:
        """Yield what it may import into a module of `package`, as dotted names."""
        base = self.base
        if self.level:
            around = package.split(".") if package else []
            around = around[: len(around) - self.level + 1]
            base = ".".join([*around, base] if base else around)
        for part in self.parts:
            yield f"{base}.{part}" if base and part else base or part


def tree_digest(path: Path) -> str:
    """Return the digest of the file's syntax tree: comments, docstrings and formatting do not count.

    A file that does not parse counts by its bytes.
    """
    return _parsed(path)[0]


def _parsed(path: Path) -> tuple[str, tuple[Import, ...]]:
    """Return the digest of the file's syntax tree and what it imports; kept, for all stages rest on the same files."""
    now = path.stat()
    if time.time_ns() - max(now.st_mtime_ns, now.st_ctime_ns) < RACY_NS:
        return _parse(path)
    return _parse_once(path, (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino))


@functools.lru_cache(maxsize=4096)
def _parse_once(path: Path, _: tuple[int, ...]) -> tuple[str, tuple[Import, ...]]:
    return _parse(path)


def _parse(path: Path) -> tuple[str, tuple[Import, ...]]:
    return parse(path.read_bytes())


def parse(source: bytes, is_code: bool = True) -> tuple[str, tuple[Import, ...]]:
    """Return the digest of the syntax tree of `source`, and what it imports.

    What does not parse, or is no code, counts by its bytes and imports nothing.
    """
    try:
        tree = ast.parse(source) if is_code else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:
        return hashlib.blake2b(source, digest_size=16).hexdigest(), ()
    imports = tuple(_imports(tree))
    return xxhash.xxh3_128_hexdigest(tree_text(tree).encode("utf-8", "surrogatepass")), imports


def view(paths: list[Path], args: dict[str, str]) -> str:
    """Return the tree digest of the first path: the view of a user's Python file that enters keys."""
    return tree_digest(Path(paths[0]))


def closure(root: Path, module: str) -> list[Path]:
    """Return the files below `root` that importing `module` may execute, sorted; empty if it is not there.

    Imports are followed wherever they stand in a file; a package's `__init__` counts for everything inside it.
    """
    found: dict[Path, None] = {}
    left = [module]
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        path = module_file(root, name)
        if path is None:
            continue
        if "." in name:
            left.append(name.rpartition(".")[0])
        found[path] = None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        left += [dotted for imported in _parsed(path)[1] for dotted in imported.names(package)]
    return sorted(found)


def module_file(root: Path, module: str) -> Path | None:
    """Return the file below `root` that defines `module`, or None."""
    base = root.joinpath(*module.split("."))
    for candidate in (base / "__init__.py", base.with_name(base.name + ".py")):
        if candidate.is_file():
            return candidate
    return None


def _imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield Import(0, "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", ("", *(alias.name for alias in node.names)))
