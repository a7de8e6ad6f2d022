"""A store elsewhere: a directory, or any address that fsspec knows, with the layout of a store's objects and actions.

Contents go there before the records that refer to them, and come from there before their record is written here: killed
at any instant, neither side has a record without its contents. A push lists once what is there already; a pull asks
for what it wants, so that it costs the same however large the store is. What is there stays: of two results of one key
the first is the one that everybody gets. Nothing that comes is trusted: a record's key must be the digest of its
components, its names must be plain, and contents are hashed before they are taken. Records hold no paths, so that they
mean the same to everybody. Whatever may be a fault of the line is tried a few times before it counts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rvbuild.build.artifact import digest
from rvbuild.build.fingerprint import hash_file
from rvbuild.build.store import Action, Store
from rvbuild.errors import StoreError, UsageError
from rvbuild.progress import Progress

_AT_ONCE = 16
#: How long to wait before another try.
_PAUSES_S = (0.1, 0.5, 2.0)
#: What another try does not change.
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ImportError, TypeError, ValueError)
_FINAL_NUMBERS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG)
_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError")
#: File systems of buckets, which have no directories to make.
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "tos", "r2"}
_HEX = re.compile(r"[0-9a-f]{32}")


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Moved:
    """What a push or pull did.

    Attributes
    ----------
    records, contents, size : int
        Records and contents that were moved, and the bytes of the contents.
    problems : tuple of str
        What was wrong, a line each.
    differing : tuple of str
        Keys that have another result there than here.
    """

    records: int = 0
    contents: int = 0
    size: int = 0
    problems: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    def __add__(self, other: Moved) -> Moved:
        """Return what two of them did together."""
        return Moved(
            self.records + other.records,
            self.contents + other.contents,
            self.size + other.size,
            self.problems + other.problems,
            self.differing + other.differing,
        )


class Remote:
    """The store at `url`: an address of fsspec such as `s3://bucket/rvbuild`, or a directory (relative to `base`).

    Raises
    ------
    UsageError
        If the address is of an unknown kind, or needs a package that is not installed.
    """

    def __init__(self, url: str, base: Path | None = None, pauses_s: Sequence[float] = _PAUSES_S) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        place = url if "://" in url or "::" in url else str((base or Path.cwd()) / Path(url).expanduser())
        try:
            self._fs, root = url_to_fs(place)
        except ImportError as error:
            kind = url.partition("://")[0]
            extra = "; `pip install 'rvbuild[s3]'`" if kind in ("s3", "s3a") else ""
            raise UsageError(
                f"{url}: addresses with {kind}:// need a package that is missing: {error}{extra}"
            ) from None
        except ValueError as error:
            raise UsageError(f"{url}: not an address of a store: {error}") from None
        self._root = str(root).rstrip("/")
        kinds = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
        self._local = "file" in kinds
        self._flat = bool(kinds & _BUCKETS)
        self._pauses_s = tuple(pauses_s)
        self._made: set[str] = set()
        self._lock = threading.Lock()

    @functools.cached_property
    def keys(self) -> dict[str, int]:
        """The keys that have a record there, listed once, with the size of the record."""
        return self._listed("actions")

    @functools.cached_property
    def _objects(self) -> dict[str, int]:
        return self._listed("objects")

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

    def _patiently(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call `function`, again after a pause if it fails in a way that may pass."""
        for pause_s in self._pauses_s:
            try:
                return function(*args)
            except Exception as error:  # every file system has errors of its own
                if _is_final(error):
                    raise
                time.sleep(pause_s * random.uniform(0.5, 1.5))
        return function(*args)

    def _listed(self, folder: str) -> dict[str, int]:
        """Return key or digest -> size of the files below `folder`; what a killed push left is not counted."""
        with self._errors("list"):
            self._fs.invalidate_cache()
            try:
                found = self._patiently(lambda: self._fs.find(f"{self._root}/{folder}", detail=True))
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

        A key that has another result here than in `store` keeps it; the difference is counted in `store`.

        Raises
        ------
        StoreError
            If something cannot be written here; what was copied before is whole.
        """
        keys = list(dict.fromkeys(keys))
        actions = [a for a in map(store.restorable, keys) if a is not None]
        there = self.look_up([a.key for a in actions if a.key in self.keys])
        differing: set[str] = set()
        for action in actions:
            first = there.get(action.key)
            if first is not None and dict(first.outputs) != dict(action.outputs):
                differing.add(action.key)
                store.differ(action.key, first, action, self.url)
        ours = [a for a in actions if a.key not in differing]
        sizes = {d: size for a in ours for d, size in a.outputs.values()}
        missing = {d: size for d, size in sizes.items() if self._objects.get(d) != size}
        progress.start("sending contents", len(missing), "contents")

        def send(value: str) -> str | None:
            try:
                good = hash_file(store.object(value)) == value
            except FileNotFoundError:
                good = False
            if good:
                self._patiently(self._put, store.object(value), self._object(value))
            progress.advance()
            return None if good else value

        with self._errors("write to"):
            bad = {value for value in _each(send, missing) if value is not None}
            self._objects.update({d: size for d, size in missing.items() if d not in bad})
            new = [a for a in ours if there.get(a.key) is None]
            whole = [a for a in new if not any(d in bad for d, _ in a.outputs.values())]
            _each(lambda a: self._patiently(self._put, store.action_file(a.key), self._action(a.key)), whole)
        self.keys.update({a.key: 0 for a in whole})
        problems = [f"content {d} is damaged here and was not sent; try `rvbuild cache verify`" for d in sorted(bad)]
        if len(actions) < len(keys):
            lost = len(keys) - len(actions)
            problems.append(
                f"{lost} results are not whole in {store.root} and were not sent; try `rvbuild cache verify`"
            )
        sent = [size for d, size in missing.items() if d not in bad]
        return Moved(len(whole), len(sent), sum(sent), tuple(problems), tuple(sorted(differing)))

    def _put(self, source: Path, target: str) -> None:
        folder = target.rpartition("/")[0]
        with self._lock:
            if folder not in self._made and not self._flat:
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

    def look_up(self, keys: Iterable[str]) -> dict[str, Action | None]:
        """Return what those of `keys` gave that have a record here, None for a damaged one; no contents are read.

        Raises
        ------
        StoreError
            If this store cannot be read.
        """
        wanted = list(dict.fromkeys(keys))

        def read(key: str) -> bytes | None:
            try:
                return bytes(self._patiently(self._fs.cat_file, self._action(key)))
            except FileNotFoundError:
                return None

        with self._errors("read"):
            texts = _each(read, wanted)
        found: dict[str, Action | None] = {}
        for key, text in zip(wanted, texts, strict=True):
            if text is not None:
                action = Action.decoded(text, key)
                found[key] = action if action is not None and _is_sound(action) else None
        return found

    def pull(self, store: Store, keys: Iterable[str], progress: Progress) -> Moved:
        """Copy what `keys` gave from here into `store`, verified; what does not verify is left out and reported.

        Raises
        ------
        StoreError
            If something cannot be read here; what was copied before is whole.
        """
        found = self.look_up(key for key in dict.fromkeys(keys) if store.restorable(key) is None)
        actions = [action for action in found.values() if action is not None]
        problems = [
            f"{self.url}: the record of {key} is damaged or forged; it was left out"
            for key, action in found.items()
            if action is None
        ]
        sizes = {d: size for a in actions for d, size in a.outputs.values()}
        missing = {d: size for d, size in sizes.items() if not store.has(d, size)}
        progress.start("fetching contents", len(missing), "contents")

        def fetch(value: str) -> str | None:
            copy = store.temporary()
            try:
                try:
                    self._patiently(self._fs.get_file, self._object(value), str(copy))
                except FileNotFoundError:
                    return value
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


def _is_final(error: Exception) -> bool:
    """Tell whether another try would fail in the same way."""
    if isinstance(error, _FINAL) or type(error).__name__ in _FINAL_NAMES:
        return True
    return isinstance(error, OSError) and error.errno in _FINAL_NUMBERS


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
