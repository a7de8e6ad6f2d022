"""A remote store: a directory, or any address that fsspec supports, with the layout of a store's objects and actions.

Contents are sent before the records that refer to them, and received before their record is written locally: after a
kill at any moment, neither side has a record without its contents. A push lists the existing files once; a pull
requests single files, so that its cost does not depend on the size of the store. Existing results stay: if a key has
two results, everybody gets the first, even if both are sent at the same moment. Received data are not trusted: a
record's key must be the digest of its components, its names must be plain, no content may be larger than its record
says, and contents are hashed before they are used. Records hold no paths, so they mean the same to everybody.

With a key (`RVBUILD_REMOTE_KEY`) records are signed, together with the SHA-256 of the contents that they refer to: the
digests in the names of contents reveal damage, SHA-256 reveals forgery. Unsigned records are then ignored.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.keys.signature import hash_file, hash_file_twice
from rvbuild.engine.remote.backend import PAUSES_S, Backend
from rvbuild.engine.store.action import Action, is_digest
from rvbuild.engine.store.store import Store
from rvbuild.files.signing import is_signed, shared_key
from rvbuild.process.threads import map_threads
from rvbuild.progress import Progress

_AT_ONCE = 16
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Transfer:
    """The result of a push or pull.

    Attributes
    ----------
    records, contents, size : int
        Transferred records and contents, and the bytes of the contents.
    problems : tuple of str
        Problems, a line each.
    differing : tuple of str
        Keys with different results here and there.
    """

    records: int = 0
    contents: int = 0
    size: int = 0
    problems: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    def __add__(self, other: Transfer) -> Transfer:
        """Return the sum of two transfers."""
        return Transfer(
            self.records + other.records,
            self.contents + other.contents,
            self.size + other.size,
            self.problems + other.problems,
            self.differing + other.differing,
        )


class RemoteStore:
    """The store at `url`: an address of fsspec such as `s3://bucket/rvbuild`, or a directory (relative to `base`).

    The environment variable RVBUILD_REMOTE_KEY gives the key.

    Attributes
    ----------
    unsigned : set of str
        Keys whose records were refused because they are not signed with the key.

    Raises
    ------
    UsageError
        The address is of an unknown kind, or needs a package that is not installed, or the key is not a secret.
    """

    def __init__(self, url: str, base: Path | None = None, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self.url = url
        self.unsigned: set[str] = set()
        self._key = shared_key("RVBUILD_REMOTE_KEY")
        self._sha256: dict[str, dict[str, str]] = {}  # key -> SHA-256 by digest of contents, of signed records
        self._backend = Backend(url, base, pauses_s)

    def is_missing(self) -> bool:
        """Tell whether the store is a directory that does not exist: nothing was pushed yet, or it is misspelt."""
        return self._backend.is_missing()

    @functools.cached_property
    def keys(self) -> dict[str, int]:
        """The keys with a record there, listed once, with the size of the record."""
        return self._listed("actions")

    @functools.cached_property
    def _objects(self) -> dict[str, int]:
        return self._listed("objects")

    def _listed(self, folder: str) -> dict[str, int]:
        """Return key or digest -> size of the files below `folder`; leftovers of killed pushes are not counted."""
        with self._backend.errors("list"):
            sizes = self._backend.sizes(folder)
        names = {}
        for path, size in sizes.items():
            parent, _, name = path.rpartition("/")
            name = parent + name if folder == "objects" else name.removesuffix(".json")
            if is_digest(name):
                names[name] = size
        return names

    # -- single contents and results ----------------------------------------------------------------------------------

    def has_content(self, digest: str, size: int) -> bool:
        """Tell whether a content `digest` of this size is here.

        Raises
        ------
        StoreError
            This store cannot be read.
        """
        with self._backend.errors("read"):
            return self._backend.size(_object(digest)) == size

    def send_content(self, file: Path, digest: str) -> None:
        """Copy a file to here, whose digest is `digest`.

        Raises
        ------
        StoreError
            This store cannot be written.
        """
        with self._backend.errors("write to"):
            self._backend.send(file, _object(digest))

    def fetch_content(self, digest: str, size: int, target: Path) -> bool:
        """Copy a content from here to the path `target`; return whether it is here and intact.

        Raises
        ------
        StoreError
            This store cannot be read.
        """
        with self._backend.errors("read"):
            return self._backend.fetch(_object(digest), target, size) and hash_file(target) == digest

    def remove_content(self, digest: str) -> None:
        """Remove a content.

        Raises
        ------
        StoreError
            This store cannot be written.
        """
        with self._backend.errors("write to"):
            self._backend.remove(_object(digest))

    def announce(self, action: Action) -> Action:
        """Write the record of a result whose contents are here; return that of the key, which may be an earlier one.

        Raises
        ------
        StoreError
            This store cannot be written.
        """
        with self._backend.errors("write to"):
            return self._announce(action, None, {}) or action

    # -- push ---------------------------------------------------------------------------------------------------------

    def push(self, store: Store, keys: Iterable[str], progress: Progress) -> Transfer:
        """Copy the intact results of `keys` from `store` to here, with the contents that are missing here.

        A key with a different result here keeps it; the difference is recorded in `store`. A record that is damaged
        here, or that differs from ours and lacks contents, is useless and is replaced.

        Raises
        ------
        StoreError
            Something cannot be written here; what was copied before is complete.
        """
        keys = list(dict.fromkeys(keys))
        with store.writing():  # so that no gc removes data that are being sent
            actions = [a for a in map(store.restorable, keys) if a is not None]
            theirs = self.look_up([a.key for a in actions if a.key in self.keys])
            complete = {key: first for key, first in theirs.items() if first is not None and self._is_whole(first)}
            differing = self._differing(store, [(a, complete.get(a.key)) for a in actions])
            ours = [a for a in actions if a.key not in differing]
            with self._backend.errors("write to"):
                sent, bad = self._send_contents(store, ours, progress)
                new = [a for a in ours if a.key not in complete]
                sha256, forged = self._sha256_of(store, new)
                bad |= forged
                new = [a for a in new if not any(d in bad for d, _ in a.outputs.values())]
                existing = _each(lambda a: self._announce(a, theirs.get(a.key), sha256), new)
            self.keys.update({a.key: 0 for a in new})
            differing |= self._differing(store, list(zip(new, existing, strict=True)))
        problems = [f"content {d} is damaged here and was not sent; try `rvbuild cache verify`" for d in sorted(bad)]
        if len(actions) < len(keys):
            lost = len(keys) - len(actions)
            problems.append(
                f"{lost} results are incomplete in {store.root} and were not sent; try `rvbuild cache verify`"
            )
        records = sum(first is None for first in existing)
        return Transfer(records, len(sent), sum(sent.values()), tuple(problems), tuple(sorted(differing)))

    def _differing(self, store: Store, pairs: Iterable[tuple[Action, Action | None]]) -> set[str]:
        """Return the keys of the (ours, theirs) pairs whose outputs differ, and record the differences in `store`."""
        keys = set()
        for ours, first in pairs:
            if first is not None and dict(first.outputs) != dict(ours.outputs):
                keys.add(ours.key)
                store.differ(ours.key, first, ours, self.url)
        return keys

    def _send_contents(
        self, store: Store, actions: Iterable[Action], progress: Progress
    ) -> tuple[dict[str, int], set[str]]:
        """Send the missing contents of `actions`; return the sent ones with their sizes, and the damaged ones."""
        sizes = {d: size for a in actions for d, size in a.outputs.values()}
        missing = {d: size for d, size in sizes.items() if self._objects.get(d) != size}
        progress.start("sending contents", len(missing), "contents")

        def send(value: str) -> str | None:
            try:
                good = hash_file(store.object(value)) == value
            except FileNotFoundError:
                good = False
            if good:
                self._backend.send(store.object(value), _object(value))
            progress.advance()
            return None if good else value

        bad = {value for value in _each(send, missing) if value is not None}
        sent = {d: size for d, size in missing.items() if d not in bad}
        self._objects.update(sent)
        return sent, bad

    def _sha256_of(self, store: Store, actions: Iterable[Action]) -> tuple[dict[str, str], set[str]]:
        """Return digest -> SHA-256 of the contents of `actions`, and the damaged ones; both are empty without a key."""
        if self._key is None:
            return {}, set()
        values = list(dict.fromkeys(d for a in actions for d, _ in a.outputs.values()))

        def hash_both(value: str) -> tuple[str, str]:
            try:
                return hash_file_twice(store.object(value))
            except FileNotFoundError:
                return "", ""

        digests = dict(zip(values, _each(hash_both, values), strict=True))
        return {d: sha for d, (xxh3, sha) in digests.items() if xxh3 == d}, {
            d for d, (x, _) in digests.items() if x != d
        }

    def _is_whole(self, action: Action) -> bool:
        return all(self._objects.get(d) == size for d, size in action.outputs.values())

    def _announce(self, action: Action, useless: Action | None, sha256: Mapping[str, str]) -> Action | None:
        """Write the record of `action` unless its key has a record that is not `useless`; return that record."""
        place = _action(action.key)
        ours = action.encoded()
        if self._key is not None:
            ours = action.encoded(self._key, {d: sha256[d] for d, _ in action.outputs.values()})
        text = self._backend.read(place)
        if text is None:
            if self._backend.create(place, ours):
                return None
            text = self._backend.read(place)  # another writer was faster
        first = self._verified(text, action.key)
        if first is None or first == useless:
            self._backend.replace(place, ours)
            return None
        return first

    # -- pull ---------------------------------------------------------------------------------------------------------

    def look_up(self, keys: Iterable[str]) -> dict[str, Action | None]:
        """Return key -> result for the `keys` with a record here, None for a damaged record; no contents are read.

        Raises
        ------
        StoreError
            This store cannot be read.
        """
        wanted = list(dict.fromkeys(keys))
        with self._backend.errors("read"):
            texts = _each(lambda key: self._backend.read(_action(key)), wanted)
        return {key: self._verified(text, key) for key, text in zip(wanted, texts, strict=True) if text is not None}

    def pull(self, store: Store, keys: Iterable[str], progress: Progress) -> Transfer:
        """Copy the results of `keys` from here into `store` and verify them; invalid ones are skipped and reported.

        Raises
        ------
        StoreError
            Something cannot be read here; what was copied before is complete.
        """
        records = self.look_up(key for key in dict.fromkeys(keys) if store.restorable(key) is None)
        problems = [
            f"{self.url}: the record of {key} is {self._defect_of(key)}; it was skipped"
            for key, action in records.items()
            if action is None
        ]
        actions, too_large = self._fitting(store, [action for action in records.values() if action is not None])
        problems += too_large
        sizes = {d: size for a in actions for d, size in a.outputs.values()}
        missing = {d: size for d, size in sizes.items() if not store.has(d, size)}
        progress.start("fetching contents", len(missing), "contents")

        sha256 = {d: sha for a in actions for d, sha in self._sha256.get(a.key, {}).items()}

        def fetch(value: str) -> str | None:
            copy = store.temporary()
            try:
                if not self._backend.fetch(_object(value), copy, missing[value]):
                    return value
                if hash_file(copy) != value or (self._key is not None and hash_file_twice(copy)[1] != sha256[value]):
                    return value
                store.take(copy, value)
                return None
            finally:
                store.release(copy)
                progress.advance()

        with self._backend.errors("read"), store.writing():
            bad = {value for value in _each(fetch, missing) if value is not None}
            whole = [a for a in actions if not any(d in bad for d, _ in a.outputs.values())]
            for action in whole:
                store.record(action)
        problems += [f"{self.url}: content {d} is missing or damaged; it was skipped" for d in sorted(bad)]
        fetched = [size for d, size in missing.items() if d not in bad]
        return Transfer(len(whole), len(fetched), sum(fetched), tuple(problems))

    def _fitting(self, store: Store, actions: Sequence[Action]) -> tuple[list[Action], list[str]]:
        """Return the `actions` whose contents fit on the disk, and a line for each of the others."""
        free = shutil.disk_usage(store.root).free
        wanted = {a.key: sum(dict(a.outputs.values()).values()) for a in actions}
        problems = [
            f"{self.url}: the record of {key} lists {size:,} bytes, but {store.root} has room for {free:,}; "
            "it was skipped"
            for key, size in wanted.items()
            if size > free
        ]
        return [a for a in actions if wanted[a.key] <= free], problems

    def _verified(self, text: bytes | None, key: str) -> Action | None:
        """Return the action in the record `text` of `key`, or None if it is damaged, forged or not signed."""
        action = None if text is None else Action.decoded(text, key)
        try:
            if text is None or action is None or digest(action.components) != key:
                return None
        except (ValueError, RecursionError):  # NaN, or nested too deeply
            return None
        if self._key is not None:
            data = json.loads(text)
            sha256 = data.get("sha256")
            contents = {d for d, _ in action.outputs.values()}
            if not (
                is_signed(data, self._key)
                and isinstance(sha256, dict)
                and all(isinstance(sha256.get(d), str) and _SHA256.fullmatch(sha256[d]) for d in contents)
            ):
                self.unsigned.add(key)
                return None
            self._sha256[key] = sha256
        self.unsigned.discard(key)
        return action

    def _defect_of(self, key: str) -> str:
        return "not signed with RVBUILD_REMOTE_KEY" if key in self.unsigned else "damaged or forged"


def _object(value: str) -> str:
    return f"objects/{value[:2]}/{value[2:]}"


def _action(key: str) -> str:
    return f"actions/{key[:2]}/{key}.json"


def _each(function: Callable[[Any], Any], items: Iterable[Any] | Mapping[str, int]) -> list[Any]:
    """Return the results of `function` for all `items`, computed a few at a time; the first exception is raised."""
    return map_threads(function, items, _AT_ONCE)
