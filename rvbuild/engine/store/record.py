"""Records of the origin of every artifact in a workspace, and their text form."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, NamedTuple

from rvbuild.engine.keys.signature import Signature
from rvbuild.engine.store.inside import is_plain


class Output(NamedTuple):
    """An output file in the workspace."""

    path: str  # relative to the workspace
    digest: str
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int | None  # None for a hard link into the store, whose links change the signature

    def placed(self) -> Signature | None:
        """Return the signature of the file when it was put in place, if it is complete."""
        return None if self.ctime_ns is None else Signature(self.size, self.mtime_ns, self.ctime_ns, self.inode)

    def is_as_placed(self, now: Signature) -> bool:
        """Tell whether the stat signature `now` equals that of the file when it was put in place."""
        same = now.mtime_ns == self.mtime_ns and now.size == self.size and now.inode == self.inode
        return same and (self.ctime_ns is None or self.ctime_ns == now.ctime_ns)


@dataclass(frozen=True, slots=True)
class Record:
    """The origin of an artifact in the workspace; `cleaned` means that it was removed on purpose.

    The explanation of a record (`components`, `sources`, `packages`) is large for thousands of artifacts, so it is
    stored separately: `State.records` omits it, `State.record` includes it.
    """

    key: str
    components: Mapping[str, Any]
    sources: Mapping[str, Any]  # role -> [[path, digest], ...], for explanations
    outputs: Mapping[str, Output]
    seconds: float
    at: float
    packages: Mapping[str, str] = field(default_factory=dict)
    cleaned: bool = False
    trajectory: str | None = None  # of its checkpoints, if any


def encode(record: Record) -> tuple[str, str]:
    """Return the two stored parts of a record: the part that decisions need, and the explanation."""
    made = json.dumps({"components": record.components, "sources": record.sources, "packages": record.packages})
    return encode_shown(record), made


def encode_shown(record: Record) -> str:
    """Return the part of a record that decisions need."""
    outputs = {name: [o.path, o.digest, o.size, o.mtime_ns, o.inode, o.ctime_ns] for name, o in record.outputs.items()}
    shown = {
        "key": record.key,
        "outputs": outputs,
        "seconds": record.seconds,
        "at": record.at,
        "cleaned": record.cleaned,
        "trajectory": record.trajectory,
    }
    return json.dumps(shown)


_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def decode(shown: str, made: str | None = None) -> Record | None:
    """Decode a record; None if it is damaged: its artifact then counts as never built here."""
    try:
        record = _record(json.loads(shown))
        if made is None:
            return record
        data = json.loads(made)
        parts = data["components"], data["sources"], data["packages"]
        if not all(isinstance(part, dict) for part in parts):
            return None
        return replace(record, components=parts[0], sources=parts[1], packages=parts[2])
    except _DAMAGE:
        return None


def decode_all(rows: Iterable[tuple[str, str]]) -> dict[str, Record]:
    """Return artifact -> record from (artifact, text of the record), without damaged ones."""
    rows = list(rows)
    try:  # as one document, which is faster for thousands
        shown = [_record(data) for data in json.loads(f"[{','.join(text for _, text in rows)}]")]
    except _DAMAGE:
        shown = []
    if len(shown) == len(rows):
        return {name: record for (name, _), record in zip(rows, shown, strict=True)}
    decoded = ((name, decode(text)) for name, text in rows)
    return {name: record for name, record in decoded if record is not None}


_KINDS = {(str, str, int, int, int, kind) for kind in (int, NoneType)}
_is_name = functools.lru_cache(maxsize=1 << 12)(is_plain)


def _record(data: dict[str, Any]) -> Record:
    """Decode a record without its explanation.

    Raises
    ------
    ValueError, TypeError, KeyError, AttributeError
        It is invalid: names that point outside, or values of wrong types.
    """
    outputs = {name: Output(*values) for name, values in data["outputs"].items()}
    record = Record(data["key"], {}, {}, outputs, data["seconds"], data["at"], {}, data["cleaned"], data["trajectory"])
    for name, output in outputs.items():
        kinds = tuple(map(type, output))
        if kinds not in _KINDS or not _is_name(name):
            raise ValueError(f"{name!r} is not an output")
    if type(record.key) is not str or not record.key.isascii() or type(record.trajectory) not in (str, NoneType):
        raise ValueError(f"{record.key!r} is not a key")
    if {type(record.seconds), type(record.at)} - {int, float} or type(record.cleaned) is not bool:
        raise ValueError(f"{record.at!r} is not a time")
    return record
