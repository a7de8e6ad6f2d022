"""Python code as an input: digests of syntax trees, and which files of a package a module rests on."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import xxhash


def tree_digest(path: Path) -> str:
    """Return the digest of the file's syntax tree: comments, docstrings and formatting do not count.

    A file that does not parse counts by its bytes.
    """
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return hashlib.blake2b(source, digest_size=16).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            first = body[0] if body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = body[1:]
    return xxhash.xxh3_128_hexdigest(ast.dump(tree).encode("utf-8", "surrogatepass"))


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
        left += _imports(path, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return sorted(found)


def module_file(root: Path, module: str) -> Path | None:
    """Return the file below `root` that defines `module`, or None."""
    base = root.joinpath(*module.split("."))
    for candidate in (base / "__init__.py", base.with_name(base.name + ".py")):
        if candidate.is_file():
            return candidate
    return None


def _imports(path: Path, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}" if base else alias.name
