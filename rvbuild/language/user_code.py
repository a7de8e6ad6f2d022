"""Users' own code: functions named as `package.module:name`, from modules that are found by their files.

The workspace is not on the module path. A job lists the modules that it may import from there (`Code`). Only these are
served, from their source text: a file with the name of an installed or standard module cannot replace it, and no
module outside of the key is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import (
    ExtensionFileLoader,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

from rvbuild.errors import CodeError, ModelError, RvbuildError, nearest
from rvbuild.language.user_files import Watch, watching


@dataclass(frozen=True)
class Code:
    """The user's modules that a job may import, and the other files in its key.

    Attributes
    ----------
    workspace : str
        Root of the project; the code must not open files below it that are not part of a key.
    modules : mapping
        Dotted name -> absolute path of the file that defines the module.
    files : tuple of str
        Other files that the code may read.
    folders : tuple of str
        Directories that the code may list.
    variables : tuple of str
        Environment variables that the code may read.
    """

    workspace: str
    modules: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


def serve_code(code: Code | None, inputs: Iterable[str] = ()) -> Watch | None:
    """Allow imports of the modules of `code`, and of no other user modules, from now on; None allows no user module.

    Parameters
    ----------
    code : Code or None
    inputs : iterable of str
        Inputs of the stage: files and directories that the user's code may also open.

    Returns
    -------
    Watch or None
        The watcher of files that the code opens.
    """
    modules = {} if code is None else dict(code.modules)
    _FINDER.serve(modules)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    watch = None
    if code is not None and modules:
        watch = Watch(code.workspace, modules.values(), (*code.files, *inputs), code.folders, code.variables)
    watching(watch)
    global _CODE
    _CODE = code
    return watch


def served_code() -> Code | None:
    """Return the code that is served."""
    return _CODE


def reported(watch: Watch | None, note: Callable[[str], None]) -> None:
    """Tell which files the user's code has read that are in no key.

    Raises
    ------
    CodeError
        It has read one of the workspace, even if it ignored the error.
    """
    if watch is None:
        return
    if watch.refused:
        raise CodeError(watch.refused[0])
    for path in watch.outside:
        note(f"warning: your code reads {path}, which is not part of any key: add it to `depends` in [project]")


def paths_in(value: Any) -> Iterator[str]:
    """Yield the files and directories among the arguments of a stage."""
    if isinstance(value, Path):
        yield str(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from paths_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from paths_in(item)


class Served:
    """The served code, for child processes: unpickling it serves the same modules."""

    def __reduce__(self) -> tuple[Callable[[Code | None], Served], tuple[Code | None]]:
        return _serve_again, (_CODE,)


def _serve_again(code: Code | None) -> Served:
    serve_code(code)
    return Served()


_CODE: Code | None = None


class _Finder(importlib.abc.MetaPathFinder):
    """Finder of the registered modules, and of the directories of their packages."""

    def __init__(self) -> None:
        self._modules: dict[str, str] = {}
        self._folders: dict[str, list[str]] = {}

    def serve(self, modules: dict[str, str]) -> None:
        """Register `modules` (dotted name -> file), and forget imports of earlier ones."""
        if modules == self._modules:
            return
        before, folders = self._modules, _folders(modules)
        for name in {*before, *self._folders}:
            if before.get(name) != modules.get(name) or self._folders.get(name) != folders.get(name):
                sys.modules.pop(name, None)
        self._modules, self._folders = modules, folders

    def forget(self) -> None:
        """Forget all imported modules, so that they are imported again."""
        for name in {*self._modules, *self._folders}:
            sys.modules.pop(name, None)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module that is served.

        Raises
        ------
        CodeError
            It belongs to a served package but is not served itself, so it is not part of the key.
        """
        file = self._modules.get(fullname)
        if file is not None:
            is_package = Path(file).name.partition(".")[0] == "__init__"
            inside = [str(Path(file).parent)] if is_package else None
            loader = _loader(fullname, file)
            return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)
        if fullname in self._folders:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = list(self._folders[fullname])
            return spec
        if fullname.partition(".")[0] in self._tops():
            unserved = PathFinder.find_spec(fullname, path)
            if unserved is not None and unserved.origin is not None:
                raise CodeError(
                    f"{unserved.origin} is imported as {fullname} in a way that the source does not show, so it is not "
                    "part of any key: add the file to `depends` in [project]"
                )
        return None

    def _tops(self) -> set[str]:
        return {name.partition(".")[0] for name in self._modules}


_FINDER = _Finder()


class _SourceLoader(SourceFileLoader):
    """Loader that compiles the source each time: bytecode files may be outdated, or written by somebody else."""

    def get_code(self, fullname: str) -> types.CodeType:
        """Return the code of the module."""
        path = self.get_filename(fullname)
        code: types.CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _loader(name: str, file: str) -> SourceFileLoader | SourcelessFileLoader | ExtensionFileLoader:
    if file.endswith(".py"):
        return _SourceLoader(name, file)
    return SourcelessFileLoader(name, file) if file.endswith(".pyc") else ExtensionFileLoader(name, file)


def _folders(modules: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the directories of namespace packages."""
    folders: dict[str, set[str]] = {}
    for name, file in modules.items():
        folder = Path(file).parent
        if Path(file).name.partition(".")[0] == "__init__":
            folder = folder.parent
        while "." in name:
            name = name.rpartition(".")[0]
            if name not in modules:
                folders.setdefault(name, set()).add(str(folder))
            folder = folder.parent
    return {name: sorted(paths) for name, paths in folders.items()}


def load_object(spec: str, where: str, code: Mapping[str, str] | None = None) -> Callable[..., Any]:
    """Import the callable that `spec` names.

    Parameters
    ----------
    spec
        `"package.module:name"`; the module is a served or an installed one.
    where
        The option to name in an error, for example `"train.model"`.
    code
        Source code by dotted module name, executed in place of the modules of these names.

    Raises
    ------
    ModelError
        The module or the name does not exist or belongs to Python, the import fails, or the object is not callable.
    CodeError
        The code imports or reads something that is not part of the key.
    """
    module_name, _, name = spec.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise ModelError(f'{where}: expected "package.module:name", found "{spec}"')
    if is_pythons(module_name):
        raise ModelError(f'{where}: "{spec}": {module_name} is a module of Python itself, not your own code')
    try:
        with _embedded(code or {}):
            module = importlib.import_module(module_name)
    except RvbuildError:
        raise
    except ModuleNotFoundError as error:
        raise ModelError(
            f'{where}: "{spec}": there is no module "{error.name}"; modules are searched in the workspace '
            f"(the directory that holds projects/), in its src/, and among the installed packages; a module that "
            "is imported in a way that the source does not show must be listed in `depends` in [project]"
        ) from error
    except Exception as error:
        raise ModelError(
            f'{where}: "{spec}": importing {module_name} failed: {type(error).__name__}: {error}'
        ) from error
    member = getattr(module, name, None)
    if not callable(member):
        callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        state = "is not callable" if hasattr(module, name) else "does not exist"
        raise ModelError(f'{where}: "{spec}": {name} {state} in {module_name}{nearest(name, callables)}')
    function: Callable[..., Any] = member
    return function


def is_pythons(module_name: str) -> bool:
    """Tell whether a module belongs to Python's standard library."""
    top = module_name.partition(".")[0]
    return top in sys.stdlib_module_names or top in sys.builtin_module_names or top == "__main__"


def forget_modules() -> None:
    """Forget the user's modules, so that they are imported again: their files may have changed."""
    _FINDER.forget()


def sources(module_name: str, files: Iterable[Path]) -> dict[str, str] | None:
    """Return the source code of the user's modules by dotted name.

    Parameters
    ----------
    module_name
        A module that the project names.
    files
        The files that it depends on, including its own file.

    Returns
    -------
    dict[str, str] | None
        None if the module is not served from `files` because it comes from an installed package.
    """
    paths = {str(file) for file in files}
    modules = {} if _CODE is None else {name: file for name, file in _CODE.modules.items() if file in paths}
    if module_name not in modules:
        return None
    return {
        name: Path(file).read_text(encoding="utf-8")
        for name, file in sorted(modules.items(), key=lambda item: item[1])
        if file.endswith(".py")
    }


@contextlib.contextmanager
def _embedded(code: Mapping[str, str]) -> Iterator[None]:
    """Let source texts replace the modules of the same names, for imports in this block only."""
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
    """Finder and loader of modules from their source text; `packages` need no text."""

    def __init__(self, code: Mapping[str, str], packages: Iterable[str]) -> None:
        self._code = code
        self._packages = set(packages)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a module that has a source text here."""
        if fullname not in self._code and fullname not in self._packages:
            return None
        return ModuleSpec(fullname, self, is_package=fullname in self._packages)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute the source text of a module."""
        name = module.__name__
        exec(compile(self._code.get(name, ""), f"<{name} embedded in the model>", "exec"), module.__dict__)
