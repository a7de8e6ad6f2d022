"""A store elsewhere: a directory, or any address that fsspec knows, with the layout of a store's objects and actions.

Contents go there before the records that refer to them, and come from there before their record is written here: killed
at any instant, neither side has a record without its contents. What is there already is found by listing once. Nothing
that comes is trusted: a record's key must be the digest of its components, its names must be plain, and contents are
hashed before they are taken. Records hold no paths, so that they mean the same to everybody.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvbuild.build.artifact import digest
from rvbuild.build.fingerprint import hash_file
from rvbuild.build.store import Action, Store
from rvbuild.errors import StoreError, UsageError
from rvbuild.progress import Progress

_AT_ONCE = 8
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Moved:
    """What a push or pull did: records and contents that were moved, their bytes, and what was wrong, a line each."""

    records: int = 0
    contents: int = 0
    size: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: Moved) -> Moved:
        """Return what two of them did together."""
        return Moved(
            self.records + other.records,
            self.contents + other.contents,
            self.size + other.size,
            self.problems + other.problems,
        )


class Remote:
    """The store at `url`: an address of fsspec such as `s3://bucket/rvbuild`, or a directory.

    Raises
    ------
    UsageError
        If the address is of an unknown kind, or needs a package that is not installed.
    StoreError
        If it cannot be listed.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        try:
            self._fs, root = url_to_fs(url if "://" in url or "::" in url else str(Path(url).expanduser().absolute()))
        except ImportError as error:
            kind = url.partition("://")[0]
            raise UsageError(f"{url}: addresses with {kind}:// need a package that is missing: {error}") from None
        except ValueError as error:
            raise UsageError(f"{url}: not an address of a store: {error}") from None
        self._root = str(root).rstrip("/")
        self._local = "file" in ((self._fs.protocol,) if isinstance(self._fs.protocol, str) else self._fs.protocol)
        self._made: set[str] = set()
        self._lock = threading.Lock()
        with self._errors("list"):
            self._fs.invalidate_cache()
            self.keys = set(self._listed("actions"))
            self._objects = self._listed("objects")

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (UsageError, StoreError):
            raise
        except Exception as error:  # every file system has errors of its own
            said = str(error) or type(error).__name__
            raise StoreError(
                f"{self.url}: cannot {what} the store: {said}; is it reachable and are you allowed to?"
            ) from None

    def _listed(self, folder: str) -> dict[str, int]:
        """Return key or digest -> size of the files below `folder`; what a killed push left is not counted."""
        try:
            found = self._fs.find(f"{self._root}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
        names = {}
        for path, info in found.items():
            parent, _, name = str(path).rpartition("/")
            name = parent.rpartition("/")[2] + name if folder == "objects" else name.removesuffix(".json")
            if _HEX.fullmatch(name):
                names[name] = int(info["size"])
        return names

    def _object(self, value: str) -> str:
        return f"{self._root}/objects/{value[:2]}/{value[2:]}"

    def _action(self, key: str) -> str:
        return f"{self._root}/actions/{key[:2]}/{key}.json"

    # -- there --------------------------------------------------------------------------------------------------------

    def push(self, store: Store, keys: Iterable[str], progress: Progress) -> Moved:
        """Copy what `keys` gave from `store` to here, and contents that got lost here; none that is damaged there.

        Raises
        ------
        StoreError
            If something cannot be written here; what was copied before is whole.
        """
        keys = list(dict.fromkeys(keys))
        actions = [a for a in map(store.restorable, keys) if a is not None]
        sizes = {d: size for a in actions for d, size in a.outputs.values()}
        missing = {d: size for d, size in sizes.items() if self._objects.get(d) != size}
        progress.start("sending contents", len(missing), "contents")

        def send(value: str) -> str | None:
            try:
                good = hash_file(store.object(value)) == value
            except FileNotFoundError:
                good = False
            if good:
                self._put(store.object(value), self._object(value))
            progress.advance()
            return None if good else value

        with self._errors("write to"):
            bad = {value for value in _each(send, missing) if value is not None}
            self._objects |= {d: size for d, size in missing.items() if d not in bad}
            new = [a for a in actions if a.key not in self.keys]
            whole = [a for a in new if not any(d in bad for d, _ in a.outputs.values())]
            _each(lambda a: self._put(store.action_file(a.key), self._action(a.key)), whole)
        self.keys |= {a.key for a in whole}
        problems = [f"content {d} is damaged here and was not sent; try `rvbuild cache verify`" for d in sorted(bad)]
        if len(actions) < len(keys):
            lost = len(keys) - len(actions)
            problems.append(
                f"{lost} results are not whole in {store.root} and were not sent; try `rvbuild cache verify`"
            )
        sent = [size for d, size in missing.items() if d not in bad]
        return Moved(len(whole), len(sent), sum(sent), tuple(problems))

    def _put(self, source: Path, target: str) -> None:
        folder = target.rpartition("/")[0]
        with self._lock:
            if folder not in self._made:
                self._fs.makedirs(folder, exist_ok=True)
                self._made.add(folder)
        if not self._local:
            self._fs.put_file(str(source), target)
            return
        # A directory shows half-written files: they appear by a rename.
        temporary = f"{folder}/.{uuid.uuid4().hex}.tmp"
        try:
            self._fs.put_file(str(source), temporary)
            os.replace(temporary, target)  # noqa: PTH105 - paths of fsspec
        finally:
            Path(temporary).unlink(missing_ok=True)

    # -- and back -----------------------------------------------------------------------------------------------------

    def pull(self, store: Store, keys: Iterable[str], progress: Progress) -> Moved:
        """Copy what `keys` gave from here into `store`, verified; what does not verify is left out and reported.

        Raises
        ------
        StoreError
            If something cannot be read here; what was copied before is whole.
        """
        wanted = [key for key in dict.fromkeys(keys) if key in self.keys and store.restorable(key) is None]
        problems: list[str] = []
        actions: list[Action] = []
        with self._errors("read"):
            for key, text in zip(wanted, _each(lambda k: self._fs.cat_file(self._action(k)), wanted), strict=True):
                action = Action.decoded(text, key)
                if action is None or not _is_sound(action):
                    problems.append(f"{self.url}: the record of {key} is damaged or forged; it was left out")
                else:
                    actions.append(action)
        sizes = {d: size for a in actions for d, size in a.outputs.values()}
        missing = {d: size for d, size in sizes.items() if not store.has(d, size)}
        progress.start("fetching contents", len(missing), "contents")

        def fetch(value: str) -> str | None:
            copy = store.temporary()
            try:
                if value not in self._objects:
                    return value
                self._fs.get_file(self._object(value), str(copy))
                if hash_file(copy) != value:
                    return value
                store.take(copy, value)
                return None
            finally:
                store.release(copy)
                progress.advance()

        with self._errors("read"), store.writing():
            bad = {value for value in _each(fetch, missing) if value is not None}
            whole = [a for a in actions if not any(d in bad for d, _ in a.outputs.values())]
            for action in whole:
                store.record(action)
        problems += [f"{self.url}: content {d} is missing or damaged; it was left out" for d in sorted(bad)]
        fetched = [size for d, size in missing.items() if d not in bad]
        return Moved(len(whole), len(fetched), sum(fetched), tuple(problems))


def _each(function: Callable[[Any], Any], items: Iterable[Any] | Mapping[str, int]) -> list[Any]:
    """Return what `function` gives for all `items`, a few at a time; the first exception ends it."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_sound(action: Action) -> bool:
    """Tell whether a record from elsewhere says what it may say."""
    names = all(n and "/" not in n and "\\" not in n and "\0" not in n and n not in (".", "..") for n in action.outputs)
    contents = all(_HEX.fullmatch(d) and size >= 0 for d, size in action.outputs.values())
    numbers = isinstance(action.seconds, int | float) and isinstance(action.at, int | float)
    packages = isinstance(action.packages, dict)
    paths = action.trajectory is None or _HEX.fullmatch(str(action.trajectory)) is not None
    if not (names and contents and numbers and packages and paths and action.outputs):
        return False
    try:
        return digest(action.components) == action.key
    except ValueError:  # not a number
        return False
