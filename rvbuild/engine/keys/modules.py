"""Users' modules: where they are, what they import, and which files beside them they name.

Nothing is imported. A module is searched in the workspace, in its `src/`, and everywhere else that Python looks
outside of its own library and of installed packages: on `PYTHONPATH`, and in editable installations. Modules found
there are followed, and are part of keys; installed packages count by the version of their distribution.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    BuiltinImporter,
    FrozenImporter,
    ModuleSpec,
    PathFinder,
)
from pathlib import Path

from rvbuild.engine.keys import data_files
from rvbuild.engine.keys.code import Import, facts_of
from rvbuild.language.user_code import is_pythons
from rvbuild.language.user_files import is_installed

_SUFFIXES = (*EXTENSION_SUFFIXES, ".py", *BYTECODE_SUFFIXES)
_OWN = "rvbuild"


@dataclass
class Closure:
    """The dependencies of users' modules.

    Attributes
    ----------
    modules : dict
        Dotted name -> the file that defines the module.
    files : set of Path
        Files beside them that they name and probably read.
    folders : set of Path
        Directories where a new file would also be considered.
    listed : set of Path
        Those of them that patterns in the source search.
    variables : set of str
        Environment variables that they name and probably read.
    packages : dict
        Distribution -> version, of the named modules that are installed.
    problems : list of str
        Problems, as messages.
    """

    modules: dict[str, Path] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    listed: set[Path] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    packages: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def closure(workspace: Path, named: Mapping[str, str], more: Iterable[Path] = ()) -> Closure:
    """Return the modules that an import of the `named` modules may execute, and the files that they may read.

    Imports are followed anywhere in a file; a package's `__init__` counts for everything inside it.

    Parameters
    ----------
    workspace : Path
    named : mapping
        Dotted name of each module that the project names -> its place in the project, for messages.
    more : iterable of Path
        Python files that are imported dynamically.
    """
    finder = _Finder(workspace)
    dependencies = Closure(folders={root for root in finder.roots if root.is_dir()} if named else set())
    pending: dict[str, str] = {}
    for module, where in named.items():
        problem = finder.problem(module.partition(".")[0])
        if is_pythons(module):
            dependencies.problems.append(f"{where}: {module} is a module of Python itself; expected your own module")
        elif problem is not None:
            dependencies.problems.append(f"{where}: {problem}")
        elif finder.file(module) is not None:
            pending[module] = where
        elif packages := _version(module):
            dependencies.packages |= packages
        elif (path := _loose(module)) is not None:
            dependencies.modules[module] = path
        elif text := finder.unfollowed(module):
            dependencies.problems.append(f"{where}: {text}")
    pending |= {name: "depends" for path in more for name in finder.names(path)}
    while pending:
        name, by = pending.popitem()
        if name in dependencies.modules or name.partition(".")[0] == _OWN:
            continue
        problem = finder.problem(name.partition(".")[0])
        if problem is not None:
            if f"{by}: {problem}" not in dependencies.problems:
                dependencies.problems.append(f"{by}: {problem}")
            continue
        path = finder.file(name)
        parent = name.rpartition(".")[0]
        if path is None:
            if text := finder.unfollowed(name):
                dependencies.problems.append(f"{by}: {text}")
            continue
        dependencies.modules[name] = path
        shown = str(path.relative_to(workspace)) if path.is_relative_to(workspace) else str(path)
        if parent:
            pending.setdefault(parent, shown)
        if path.suffix != ".py":
            continue
        package = name if path.name == "__init__.py" else parent
        facts = facts_of(path)
        for statement in facts.imports:
            pending |= {dotted: shown for dotted in _names(statement, package, finder)}
        files, folders = data_files.named(path, facts.texts, (path.parent, workspace))
        dependencies.files |= files
        dependencies.listed |= folders
        dependencies.variables.update(facts.variables)
    dependencies.files -= set(dependencies.modules.values())
    dependencies.folders |= dependencies.listed
    return dependencies


def _names(statement: Import, package: str, finder: _Finder) -> Iterable[str]:
    """Return the modules that a statement may import; for `from package import *`, all modules of the package."""
    for dotted in statement.names(package):
        if dotted.endswith(".*"):
            yield from finder.inside(dotted[:-2])
        else:
            yield dotted


class _Finder:
    """Finds the files of modules that are not installed."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        entries = [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
        packages = [entry for entry in entries if _holds_packages(entry)]
        others = [entry for entry in entries if entry not in packages]
        self.roots = tuple(dict.fromkeys([workspace, workspace / "src", *others]))
        self._packages = [str(entry) for entry in packages]
        self._known: dict[str, tuple[Path, ...]] = {}

    def _bases(self, top: str) -> tuple[Path, ...]:
        """Return the paths, without suffix, of a top-level module or package; several only for a namespace package."""
        if top not in self._known:
            self._known[top] = () if is_pythons(top) else self._look_for(top)
        return self._known[top]

    def _look_for(self, top: str) -> tuple[Path, ...]:
        bases = [root / top for root in self.roots]
        regular = [base for base in bases if _file(base) is not None]
        if regular:
            return (regular[0],)
        spec = _installed(top)
        origin = None if spec is None else spec.origin
        if spec is not None and origin is not None and not is_installed(origin) and Path(origin).is_file():
            # Editable installation: by its own finder, or under a different directory name.
            places = spec.submodule_search_locations
            return (Path(next(iter(places))),) if places else (Path(origin).with_suffix(""),)
        return tuple(base for base in bases if base.is_dir()) if spec is None or origin is None else ()

    def file(self, module: str) -> Path | None:
        """Return the file that defines a module, or None if it has none, or is installed."""
        top, *rest = module.split(".")
        for base in self._bases(top):
            path = _file(base.joinpath(*rest))
            if path is not None:
                return path
        return None

    def inside(self, package: str) -> list[str]:
        """Return the package and the modules directly in it."""
        path = self.file(package)
        if path is None or not path.name.startswith("__init__."):
            return [package]
        stems = {entry.name.partition(".")[0] for entry in path.parent.iterdir() if entry.name.endswith(_SUFFIXES)}
        return [package, *(f"{package}.{stem}" for stem in sorted(stems) if stem.isidentifier() and stem != "__init__")]

    def names(self, path: Path) -> list[str]:
        """Return the dotted name of a Python file, relative to the innermost root that contains it."""
        for root in sorted(self.roots, key=lambda root: -len(root.parts)):
            if path.is_relative_to(root):
                parts = path.relative_to(root).with_suffix("").parts
                parts = parts[:-1] if parts[-1] == "__init__" else parts
                if parts and all(part.isidentifier() for part in parts):
                    return [".".join(parts)]
        return []

    def problem(self, top: str) -> str | None:
        """Return a problem if something in the workspace has the name of an installed or standard module."""
        ours = [path for root in self.roots[:2] if (path := _file(root / top)) is not None]
        if not ours:
            return None
        shown = ours[0].relative_to(self._workspace)
        if is_pythons(top):
            return f"{shown} has the name of Python's own module {top}: rename it"
        spec = PathFinder.find_spec(top, self._packages)
        if spec is None or spec.origin is None or Path(spec.origin) == ours[0]:
            return None
        return f"{shown} has the name of the installed package {top} ({spec.origin}): rename it"

    def unfollowed(self, module: str) -> str | None:
        """Return the problem of a module that is neither installed nor a file, such as one in an archive."""
        top = module.partition(".")[0]
        spec = None if is_pythons(top) or self._bases(top) else _installed(top)
        if spec is None or spec.origin is None or is_installed(spec.origin) or Path(spec.origin).exists():
            return None
        return f"{module} is in {spec.origin}, where edits would not be noticed: unpack or install it"


def _file(base: Path) -> Path | None:
    """Return the file of a module or package from a path without suffix."""
    if base.is_dir():
        for suffix in _SUFFIXES:
            path = base / f"__init__{suffix}"
            if path.is_file():
                return path
    for suffix in _SUFFIXES:
        path = base.with_name(base.name + suffix)
        if path.is_file():
            return path
    return None


def _holds_packages(folder: Path) -> bool:
    """Tell whether a directory of the module path belongs to Python, or is one that packages are installed into."""
    if is_installed(str(folder)):
        return True
    with contextlib.suppress(OSError):
        return any(entry.name.endswith(".dist-info") for entry in folder.iterdir())
    return False


def _installed(top: str) -> ModuleSpec | None:
    """Return where Python finds a top-level module without the workspace; nothing is imported."""
    for finder in sys.meta_path:
        if finder in (BuiltinImporter, FrozenImporter) or type(finder).__module__ == "rvbuild.language.user_code":
            continue
        with contextlib.suppress(Exception):  # a third-party finder
            spec = PathFinder.find_spec(top) if finder is PathFinder else finder.find_spec(top, None)
            if spec is not None:
                return spec
    return None


def _loose(module: str) -> Path | None:
    """Return the file of a module among the installed packages that belongs to no distribution."""
    spec = None if "." in module else _installed(module)
    path = None if spec is None or spec.origin is None else Path(spec.origin)
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


@functools.cache
def _version(module: str) -> dict[str, str]:
    """Return the distributions of an installed module, with their versions."""
    top = module.partition(".")[0]
    names = metadata.packages_distributions().get(top, ()) if _installed(top) is not None else ()
    return {name: metadata.version(name) for name in sorted(set(names))}
