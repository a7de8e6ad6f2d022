"""An artifact: files that one stage makes from inputs and settings, and the key that identifies them."""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import xxhash

from rvbuild.engine.keys.signature import Signature

#: Part of every key: raised when the way of computing keys changes, which rebuilds everything.
KEY_SCHEMA = 1
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> bytes:
    """Return `value` as JSON with sorted keys and no spaces: equal data gives equal bytes.

    Raises
    ------
    ValueError
        If a number is NaN or infinite: these have no JSON form.
    TypeError
        If `value` holds something that is not JSON data.
    """
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def digest(value: Any) -> str:
    """Return the xxh3_128 of the canonical JSON of `value`, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(canonical(value))


class KeyDigester:
    """Digests the components of keys as `digest` does; what thousands of artifacts share is encoded once."""

    def __init__(self) -> None:
        self._encoded: dict[int, tuple[Any, str]] = {}

    def key(self, parts: Mapping[str, Any]) -> str:
        """Return `digest(parts)`; nobody changes what is in the settings of `parts` from then on."""
        fields = {name: _encode(value) for name, value in parts.items() if name != "settings"}
        fields["settings"] = _object({name: self._shared(value) for name, value in parts["settings"].items()})
        return xxhash.xxh3_128_hexdigest(_object(fields).encode("utf-8", "surrogatepass"))

    def _shared(self, value: Any) -> str:
        if not isinstance(value, dict | list):
            return _encode(value)
        known = self._encoded.get(id(value))
        if known is None:
            # The value is kept with its text: another one cannot get its id.
            known = self._encoded[id(value)] = value, _ENCODER.encode(value)
        return known[1]


def _object(fields: Mapping[str, str]) -> str:
    """Return a JSON object of values that are encoded."""
    return "{" + ",".join([f"{_text(name)}:{fields[name]}" for name in sorted(fields)]) + "}"


_text = functools.lru_cache(maxsize=1 << 10)(encode_basestring)


def _encode(value: Any) -> str:
    """Return the canonical JSON of a value, faster for the plain ones."""
    if type(value) is str:
        return encode_basestring(value)
    return int.__repr__(value) if type(value) is int else _ENCODER.encode(value)


def digest_texts(values: Sequence[str]) -> str:
    """Return `digest(values)`, faster where they are plain words, as digests are."""
    if not all(value.isascii() and value.isalnum() for value in values):
        return digest(list(values))
    quoted = ",".join(f'"{value}"' for value in values)
    return xxhash.xxh3_128_hexdigest(f"[{quoted}]".encode())


@functools.lru_cache(maxsize=64)
def matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Return what matches the names of outputs that are among `patterns`."""
    return re.compile("|".join(map(fnmatch.translate, patterns))).match


@dataclass(frozen=True, slots=True)
class View:
    """A digest of what a file means instead of its bytes, such as geometries and the attributes in use.

    `function` is a dotted path such as `rvbuild.geo.vector.files:digest`, called as
    `function([file, companions...], args)` in a worker process when the file's bytes have changed; the answer is kept
    beside the digest of the bytes.
    """

    function: str
    args: str = "{}"  # canonical JSON

    def name(self) -> str:
        """Return what identifies this view among the kept ones."""
        return f"{self.function} {self.args}"


@dataclass(frozen=True, slots=True)
class Source:
    """Files of the user that a stage reads under one role.

    Attributes
    ----------
    role : str
        What the files are for the stage; it enters the key, the paths do not.
    files : tuple of Path
        Absolute paths, in the order that the stage gets them.
    companions : tuple of tuple of Path
        For each file, the existing files beside it that change its meaning (a world file, the parts of a shapefile).
    views : tuple of View or None
        For each file, how it is digested; by its bytes when None. Empty if all are digested by their bytes.
    folders : tuple of Path
        Directories in which a new file would be an input, too: nothing is read from them.
    unread : tuple of (Path, Signature)
        Files beside them that were found not to change their meaning, as they were then.
    passed : bool
        Whether the stage is given the paths; user code is only part of the key.
    in_key : bool
        Whether the content is part of the key. If not, what the stage needs of it is in the key by another input, and
        the stage holds it against that; a change while the stage runs is found all the same.
    modules : mapping
        For code of the user's: dotted name -> the file of it that defines the module.
    packages : mapping
        For code of the user's that is installed: distribution -> version, part of the key.
    """

    role: str
    files: tuple[Path, ...]
    companions: tuple[tuple[Path, ...], ...] = ()
    views: tuple[View | None, ...] = ()
    passed: bool = True
    folders: tuple[Path, ...] = ()
    unread: tuple[tuple[Path, Signature], ...] = ()
    in_key: bool = True
    modules: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    def beside(self, i: int) -> tuple[Path, ...]:
        """Return the companions of the `i`-th file."""
        return self.companions[i] if self.companions else ()

    def labelled(self, i: int) -> Iterator[tuple[str, Path]]:
        """Yield the companions of the `i`-th file with what tells them apart, wherever the workspace is.

        That is their place in the list, if not their name.
        """
        path = self.files[i]
        for number, companion in enumerate(self.beside(i)):
            if companion.parent == path.parent:
                yield companion.name.removeprefix(path.stem), companion
            else:
                yield f"{number}/{companion.name}", companion


@dataclass(frozen=True, slots=True)
class Product:
    """Outputs of another artifact that a stage reads under one role.

    Attributes
    ----------
    role : str
        What the outputs are for the stage.
    artifact : str
        The name of the artifact that makes them.
    files : tuple of str
        Names or `*` patterns.
    beside : tuple of str
        Names or patterns of outputs that the stage reads too, but that are no part of the key: `files` have the digest
        of what the stage needs of them.
    """

    role: str
    artifact: str
    files: tuple[str, ...] = ("*",)
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """What a stage takes of the machine while it runs, beside its place among those that `-j` allows.

    It changes when a stage runs, and not what it makes.

    Attributes
    ----------
    cores : int or None
        How many it computes on; None for as many as RVBUILD_THREADS says, or else all. 0, for a stage that computes in
        one thread, is not counted.
    memory : int
        Bytes; 0 is not counted.
    device : str
        `cpu`; `auto` or `cuda` for any graphics card that is free, and then neither cores nor memory are counted; or
        one card, such as `cuda:1`.
    """

    cores: int | None = 0
    memory: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing to build, as a rule declares it.

    Attributes
    ----------
    name : str
        Unique in the workspace and the name of the doit task, for example `chip:potsdam:2_10`.
    project, stage, scene : str, str, str or None
        The parts of the name; an artifact of a whole project has no scene.
    run : str
        Dotted path of the stage's function, for example `rvbuild.stages.chip.stage:run`.
    version : int
        The stage's version, part of the key.
    settings : mapping
        Exactly what the stage is given, JSON data, part of the key.
    inputs : tuple of Source or Product
        What the stage reads.
    folder : str
        Where the outputs are shown, relative to the workspace.
    rename : mapping
        Names under which some outputs are shown, for example `{"stats.json": "2_10.json"}`.
    code : str
        Digest of the stage's code where it differs from the released one, else empty; part of the key.
    packages : mapping
        Versions of packages that the project wants in its keys (`[project] strict`).
    hints : mapping
        Settings that do not change the result, because it follows from the inputs or only the speed depends on them, by
        table; added to what the stage is given, not to the key.
    resource : str
        `cpu` or `torch`: which imports a worker process should have done.
    demand : Demand
        What the stage takes of the machine.
    previous_ignores : tuple of str or None
        None for a stage that makes no use of its previous result; else the roles of inputs that may have changed since.
    resume_ignores : tuple of str or None
        None for a stage that cannot resume; else the dotted settings that its trajectory does not depend on.
    writes : tuple of str
        Names or patterns of all files that the stage may make: a result with any other is none of it.
    """

    name: str
    project: str
    stage: str
    scene: str | None
    run: str
    version: int
    settings: Mapping[str, Any]
    inputs: tuple[Source | Product, ...]
    folder: str
    rename: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resource: str = "cpu"
    demand: Demand = Demand()
    previous_ignores: tuple[str, ...] | None = None
    resume_ignores: tuple[str, ...] | None = None
    writes: tuple[str, ...] = ("*",)

    def undeclared(self, outputs: Iterable[str]) -> list[str]:
        """Return which of the names `outputs` are of no file that the stage may make."""
        match = matcher(self.writes)
        return [name for name in outputs if not match(name)]

    def shown(self, output: str) -> str:
        """Return where the stage's file `output` is shown, relative to the workspace."""
        return f"{self.folder}/{self.rename.get(output, output)}"

    def needs(self) -> tuple[str, ...]:
        """Return the names of the artifacts that this one reads."""
        return tuple(dict.fromkeys(i.artifact for i in self.inputs if isinstance(i, Product)))

    def versions(self) -> dict[str, str]:
        """Return the versions of packages that are part of the key."""
        found = dict(self.packages)
        for item in self.inputs:
            if isinstance(item, Source):
                found |= item.packages
        return found

    def code_of_users(self) -> tuple[Source, ...]:
        """Return the inputs that are code of the user's."""
        return tuple(item for item in self.inputs if isinstance(item, Source) and item.modules)

    def label(self) -> str:
        """Return the short name for people: `chip:2_10` or `train`."""
        return self.stage if self.scene is None else f"{self.stage}:{self.scene}"


def components(artifact: Artifact, inputs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return all that decides the result of `artifact`: what the key digests and what `why` compares.

    The settings are those of `artifact`, not a copy: there may be thousands of artifacts.

    Parameters
    ----------
    artifact : Artifact
    inputs : sequence of (role, digest)
    """
    parts: dict[str, Any] = {
        "schema": KEY_SCHEMA,
        "stage": artifact.stage,
        "version": artifact.version,
        "settings": artifact.settings,
        "inputs": sorted([role, value] for role, value in inputs),
    }
    if artifact.code:
        parts["code"] = artifact.code
    if versions := artifact.versions():
        parts["packages"] = versions
    return parts


def plain(value: Any) -> Any:
    """Return `value` as it is after it was written as JSON and read again: lists for tuples, and a copy."""
    return json.loads(canonical(value))


def trajectory(parts: Mapping[str, Any], ignores: Sequence[str]) -> str:
    """Return the key without the settings named by dotted paths in `ignores`: what identifies checkpoints."""
    settings = plain(parts["settings"])
    for dotted in ignores:
        *tables, last = dotted.split(".")
        place = settings
        for table in tables:
            place = place[table]
        place.pop(last, None)
    return digest({**parts, "settings": settings})
