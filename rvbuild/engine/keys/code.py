"""Python code as an input: digests of syntax trees, and the imports and strings of a module."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from rvbuild.engine.keys.data_files import texts
from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.keys.syntax import tree_text

RACY_NS = 1_000_000_000
"""A file changed more recently than this may change again without a new time stamp."""


class Import(NamedTuple):
    """One import: `from base import parts`, with the number of leading dots; an empty part stands for the base."""

    level: int
    base: str
    parts: tuple[str, ...]

    def names(self, package: str) -> Iterator[str]:
        """Yield the modules that it may import into a module of `package`, as dotted names."""
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
    return parse(path.read_bytes())[0]


class Facts(NamedTuple):
    """The imports of a Python file, and strings in it that may name files and environment variables."""

    imports: tuple[Import, ...] = ()
    texts: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


def facts_of(path: Path) -> Facts:
    """Return the imports and strings of a file, or nothing if it does not parse; cached, because stages share files."""
    now = path.stat()
    if time.time_ns() - max(now.st_mtime_ns, now.st_ctime_ns) < RACY_NS:
        return _facts(path)
    return _facts_once(path, (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino))


@functools.lru_cache(maxsize=4096)
def _facts_once(path: Path, _: tuple[int, ...]) -> Facts:
    return _facts(path)


def _facts(path: Path) -> Facts:
    try:
        with _PARSING:
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return Facts()
    imports = tuple(_imports(tree))
    tree_text(tree)  # this removes the docstrings
    return Facts(imports, texts(tree), variables(tree))


def variables(tree: ast.AST) -> tuple[str, ...]:
    """Return the strings in a syntax tree that may name environment variables which it reads.

    Only code that mentions the environment reads variables. Names that are not of capitals count where they are read.

    >>> variables(ast.parse("NAME = 'SEED'; os.environ[NAME]; os.getenv('mode', 'fast')"))
    ('SEED', 'mode')
    """
    nodes = list(ast.walk(tree))
    if not any(_mentions_environment(node) for node in nodes):
        return ()
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {text for text in strings if _CAPITALS.fullmatch(text)}
    for node in nodes:
        if isinstance(node, ast.Call) and node.args:
            names |= _constant(node.args[0]) if _mentions_environment(node.func) else set()
            if isinstance(node.func, ast.Attribute) and _mentions_environment(node.func.value):
                names |= _constant(node.args[0])
        elif isinstance(node, ast.Subscript) and _mentions_environment(node.value):
            names |= _constant(node.slice)
        elif isinstance(node, ast.Compare) and any(_mentions_environment(item) for item in node.comparators):
            names |= _constant(node.left)
    return tuple(sorted(names))


_CAPITALS = re.compile("[A-Z][A-Z0-9_]*")
_ENVIRONMENT = ("environ", "environb", "getenv", "getenvb")


def _mentions_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name in _ENVIRONMENT for alias in node.names)
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in _ENVIRONMENT


def _constant(node: ast.AST) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value else set()


_PARSING = threading.Lock()
"""Python 3.11 counts the depth of trees once for all threads, and raises a SystemError if two parse side by side."""


def parse(source: bytes, is_code: bool = True) -> tuple[str, tuple[Import, ...]]:
    """Return the digest of the syntax tree of `source`, and what it imports.

    Source that does not parse, or is not code, counts by its bytes and imports nothing.
    """
    try:
        with _PARSING:
            tree = ast.parse(source) if is_code else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:
        return hashlib.blake2b(source, digest_size=16).hexdigest(), ()
    imports = tuple(_imports(tree))
    return xxhash.xxh3_128_hexdigest(tree_text(tree).encode("utf-8", "surrogatepass")), imports


def module_digest(paths: list[Path], args: dict[str, str]) -> str:
    """Return the tree digest of the first path: the content digest of a user's Python file."""
    return tree_digest(Path(paths[0]))


def named_file_digest(paths: list[Path], args: dict[str, str]) -> str:
    """Return a digest of the bytes of the first path and of its `name`: the content digest of a data file."""
    return xxhash.xxh3_128_hexdigest(f"{args['name']}\0{hash_file(paths[0])}".encode("utf-8", "surrogatepass"))


def _imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield Import(0, "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", ("", *(alias.name for alias in node.names)))
