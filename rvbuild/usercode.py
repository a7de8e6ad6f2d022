"""Functions of the user's own, named as `package.module:name` and imported from the workspace."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from rvbuild.errors import ModelError, nearest


def load_object(spec: str, where: str, code: Mapping[str, str] | None = None) -> Callable[..., Any]:
    """Import the callable that `spec` names.

    Parameters
    ----------
    spec
        `"package.module:name"`; the module is found as Python finds modules, the workspace first.
    where
        The option to name in an error, for example `"train.model"`.
    code
        Source texts by dotted module name, executed in place of modules of these names.

    Raises
    ------
    ModelError
        The module or the name does not exist, the import raises, or what is found cannot be called.
    """
    module_name, _, name = spec.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise ModelError(f'{where}: expected "package.module:name", found "{spec}"')
    try:
        with _embedded(code or {}):
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f'{where}: "{spec}": there is no module "{error.name}"; modules are looked for in the workspace '
            f"(the directory that holds projects/) and among the installed packages"
        ) from error
    except Exception as error:
        raise ModelError(
            f'{where}: "{spec}": importing {module_name} failed: {type(error).__name__}: {error}'
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        state = "is not callable" if hasattr(module, name) else "does not exist"
        raise ModelError(f'{where}: "{spec}": {name} {state} in {module_name}{nearest(name, callables)}')
    function: Callable[..., Any] = found
    return function


def forget_modules(folder: Path) -> None:
    """Let the modules of a workspace be imported anew, because their files may have changed."""
    inside, environment = f"{folder}{os.sep}", f"{sys.prefix}{os.sep}"
    own = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # A package can have no file of its own. As text: there are thousands of modules.
        places = [file] if file else list(getattr(module, "__path__", ()))
        if any(place.startswith(inside) and not place.startswith(environment) for place in places):
            own.append(name)
    for name in own:  # when all are known: the path of a package is that of the one around it
        del sys.modules[name]
    importlib.invalidate_caches()


def sources(module_name: str, files: Iterable[Path]) -> dict[str, str] | None:
    """Return the text of the user's modules by dotted name.

    Parameters
    ----------
    module_name
        An imported module.
    files
        The files of the workspace that it rests on, itself included.

    Returns
    -------
    dict[str, str] | None
        None if the module is not one of `files`: it comes from an installed package.
    """
    paths = {Path(file).resolve() for file in files}
    origin = Path(sys.modules[module_name].__file__ or "").resolve()
    return _texts(module_name, origin, paths) if origin in paths else None


def sources_by_name(module_name: str, files: Iterable[Path]) -> dict[str, str] | None:
    """Return what `sources` does, of a module that is not imported: it is the file that is called as it."""
    paths = {Path(file).resolve() for file in files}
    parts = module_name.split(".")
    endings = [("__init__.py", *reversed(parts)), (f"{parts[-1]}.py", *reversed(parts[:-1]))]
    for path in sorted(paths, key=lambda path: (len(path.parts), path)):
        if any(path.parts[: -len(ending) - 1 : -1] == ending for ending in endings):
            return _texts(module_name, path, paths)
    return None


def _texts(module_name: str, origin: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the texts of those files that lie below the directory where the dotted names start."""
    parts = module_name.split(".")
    # A package is a directory higher than a module of the same name.
    root = origin.parents[len(parts) if origin.name == "__init__.py" else len(parts) - 1]
    texts: dict[str, str] = {}
    for file in sorted(paths):
        if file.suffix == ".py" and file.is_relative_to(root):
            names = file.relative_to(root).with_suffix("").parts
            texts[".".join(names[:-1] if names[-1] == "__init__" else names)] = file.read_text(encoding="utf-8")
    return texts


@contextlib.contextmanager
def _embedded(code: Mapping[str, str]) -> Iterator[None]:
    """Let source texts take the place of modules of the same names, for the imports of this block only."""
    if not code:
        yield
        return
    packages = {name.rsplit(".", depth)[0] for name in code for depth in range(1, name.count(".") + 1)}
    hidden = {name: sys.modules.pop(name) for name in {*code, *packages} if name in sys.modules}
    finder = _TextFinder(code, packages)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in {*code, *packages}:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


class _TextFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and executes modules whose source text is given; `packages` need no text of their own."""

    def __init__(self, code: Mapping[str, str], packages: Iterable[str]) -> None:
        self._code = code
        self._packages = set(packages)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a module that has a text here."""
        if fullname not in self._code and fullname not in self._packages:
            return None
        return ModuleSpec(fullname, self, is_package=fullname in self._packages)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute a module's text in it."""
        name = module.__name__
        exec(compile(self._code.get(name, ""), f"<{name} embedded in the model>", "exec"), module.__dict__)
