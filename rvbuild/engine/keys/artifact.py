"""An artifact: the files that a stage makes from inputs and settings, and the key that identifies them."""

from __future__ import annotations

import fnmatch
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import xxhash

from rvbuild.engine.keys.signature import Signature

#: Part of every key: increased when the computation of keys changes, which rebuilds everything.
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
    """Digests the components of keys like `digest`; values that thousands of artifacts share are encoded once."""

    def __init__(self) -> None:
        self._encoded: dict[int, tuple[Any, str]] = {}
        self._last: tuple[Any, str] = ({}, "{}")

    def key(self, parts: Mapping[str, Any]) -> str:
        """Return `digest(parts)`; the settings in `parts` must not be modified afterwards."""
        fields = [
            f"{_text(name)}:{self._settings(value) if name == 'settings' else _encode(value)}"
            for name, value in sorted(parts.items())
        ]
        return xxhash.xxh3_128_hexdigest(f"{{{','.join(fields)}}}".encode("utf-8", "surrogatepass"))

    def _settings(self, settings: Mapping[str, Any]) -> str:
        last, text = self._last
        if settings is last:  # of the artifact before
            return text
        fields = [
            f"{_text(name)}:{self._shared(value) if type(value) in _NESTED else _encode(value)}"
            for name, value in sorted(settings.items())
        ]
        self._last = settings, f"{{{','.join(fields)}}}"
        return self._last[1]

    def _shared(self, value: Any) -> str:
        known = self._encoded.get(id(value))
        if known is None:
            # A reference keeps the value alive, so that no other object gets its id.
            known = self._encoded[id(value)] = value, _ENCODER.encode(value)
        return known[1]


_NESTED = (dict, list)
_text = functools.lru_cache(maxsize=1 << 10)(encode_basestring)


def _encode(value: Any) -> str:
    """Return the canonical JSON of a value; faster for strings, integers and None."""
    if value is None:
        return "null"
    if type(value) is str:
        return encode_basestring(value)
    return int.__repr__(value) if type(value) is int else _ENCODER.encode(value)


def digest_texts(values: Sequence[str]) -> str:
    """Return `digest(values)`; faster if all of them are alphanumeric, such as digests."""
    together = "".join(values)
    if not (together.isascii() and together.isalnum()):
        return digest(list(values))
    quoted = '","'.join(values)
    return xxhash.xxh3_128_hexdigest(f'["{quoted}"]'.encode())


@functools.lru_cache(maxsize=64)
def matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Return a function that matches names of outputs against `patterns`."""
    return re.compile("|".join(map(fnmatch.translate, patterns))).match


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """A way to digest the meaning of a file instead of its bytes, such as geometries and the attributes in use.

    `function` is a dotted path such as `rvbuild.geo.vector.files:digest`, called as
    `function([file, sidecars...], args)` in a worker process when the file's bytes have changed. The result is stored
    with the digest of the bytes.
    """

    function: str
    args: str = "{}"  # canonical JSON

    def name(self) -> str:
        """Return the name under which results are stored."""
        return f"{self.function} {self.args}"


@dataclass(frozen=True, slots=True)
class Source:
    """Input files that a stage reads under one role.

    Attributes
    ----------
    role : str
        The purpose of the files; it enters the key, the paths do not.
    files : tuple of Path
        Absolute paths, in the order that the stage receives.
    sidecars : tuple of tuple of Path
        For each file, the existing files beside it that change its meaning (a world file, the parts of a shapefile).
    digests : tuple of ContentDigest or None
        For each file, how it is digested; None: by its bytes. Empty if all are digested by their bytes.
    folders : tuple of Path
        Directories where a new file would also be an input; nothing is read from them.
    ignored_sidecars : tuple of (Path, Signature)
        Existing files beside them that do not change their meaning, with their state when this was determined.
    passed : bool
        Whether the stage receives the paths; user code is only part of the key.
    in_key : bool
        Whether the content is part of the key. If not, another input holds digests of everything that the stage needs,
        and the stage verifies it; changes while the stage runs are detected anyway.
    modules : mapping
        For user code: dotted name -> the file that defines the module.
    packages : mapping
        For installed user code: distribution -> version, part of the key.
    listed : tuple of Path
        For user code: those of `folders` whose entries it may list.
    variables : mapping
        For user code: environment variable that it reads -> digest of the value, part of the key.
    """

    role: str
    files: tuple[Path, ...]
    sidecars: tuple[tuple[Path, ...], ...] = ()
    digests: tuple[ContentDigest | None, ...] = ()
    passed: bool = True
    folders: tuple[Path, ...] = ()
    ignored_sidecars: tuple[tuple[Path, Signature], ...] = ()
    in_key: bool = True
    modules: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def sidecars_of(self, i: int) -> tuple[Path, ...]:
        """Return the sidecars of the `i`-th file."""
        return self.sidecars[i] if self.sidecars else ()

    def labelled(self, i: int) -> Iterator[tuple[str, Path]]:
        """Yield a label and the path of each sidecar of the `i`-th file; labels do not depend on the workspace's place.

        A label is the end of the name, or, in another directory, the position and the name.
        """
        path = self.files[i]
        for number, sidecar in enumerate(self.sidecars_of(i)):
            if sidecar.parent == path.parent:
                yield sidecar.name.removeprefix(path.stem), sidecar
            else:
                yield f"{number}/{sidecar.name}", sidecar


@dataclass(frozen=True, slots=True)
class Product:
    """Outputs of another artifact that a stage reads under one role.

    Attributes
    ----------
    role : str
        The purpose of the outputs.
    artifact : str
        The name of the artifact that produces them.
    files : tuple of str
        Names or `*` patterns.
    unkeyed : tuple of str
        Names or patterns of outputs that the stage also reads, but that are not part of the key: `files` hold digests
        of everything that the stage needs of them.
    in_key : bool
        Whether they are part of the key. If not, they follow from the other inputs, and only save the work to derive
        them: their artifact is built only if an artifact that reads them is, and that stage gets none that are not
        there.
    """

    role: str
    artifact: str
    files: tuple[str, ...] = ("*",)
    unkeyed: tuple[str, ...] = ()
    in_key: bool = True


class Resource(StrEnum):
    """The modules that a worker process should have imported; a cluster offers so many places for torch."""

    CPU = "cpu"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Demand:
    """The resources that a stage needs while it runs, besides one of the jobs that `-j` allows.

    It affects when a stage runs, but not its result.

    Attributes
    ----------
    cores : int or None
        Number of cores of each process; None for RVBUILD_THREADS, or else all. 0 means that the stage computes in one
        thread, and is not counted.
    memory : int
        Bytes of each process; 0 means that memory is not counted.
    device : str
        `cpu`; `auto` or `cuda` for any free GPU, in which case neither cores nor memory are counted; or one GPU, such
        as `cuda:1`.
    processes : int
        The number of its equal processes, each of which needs all of this: a GPU of its own, where it computes on GPUs.
        A cluster may place them on several workers, and may have fewer than so many.
    """

    cores: int | None = 0
    memory: int = 0
    device: str = "cpu"
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """A unit of work, as declared by a rule.

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
        Exactly the settings that the stage receives, JSON data, part of the key.
    inputs : tuple of Source or Product
        The inputs of the stage.
    folder : str
        Directory of the outputs, relative to the workspace.
    rename : mapping
        Names of some outputs in the workspace, for example `{"stats.json": "2_10.json"}`.
    code : str
        Digest of the stage's code if it differs from the released one, else empty; part of the key.
    packages : mapping
        Versions of packages in the key (`[project] strict`).
    hints : mapping
        Settings by table that do not affect the result: they only affect speed, or follow from the inputs. They are
        added to the stage's settings, but not to the key.
    resource : Resource
        The modules that a worker process should have imported.
    demand : Demand
        The resources that the stage needs.
    previous_ignores : tuple of str or None
        None for a stage that does not use its previous result; else the roles of inputs that may have changed since.
    resume_ignores : tuple of str or None
        None for a stage that cannot resume; else the dotted settings that its trajectory does not depend on.
    live : str
        A file, relative to the workspace, that grows while the stage runs; its directory is the stage's, too. These are
        no outputs: nothing depends on them. Empty if there is none.
    writes : tuple of str
        Names or patterns of all files that the stage may write: a result with any other file is invalid.
    """

    name: str
    project: str
    stage: str
    scene: str | None
    run: str
    version: int
    settings: Mapping[str, object]
    inputs: tuple[Source | Product, ...]
    folder: str
    rename: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    resource: Resource = Resource.CPU
    demand: Demand = Demand()
    previous_ignores: tuple[str, ...] | None = None
    resume_ignores: tuple[str, ...] | None = None
    live: str = ""
    writes: tuple[str, ...] = ("*",)

    def declared(self, outputs: Iterable[str]) -> list[str]:
        """Return the names among `outputs` that the stage declares."""
        return list(filter(matcher(self.writes), outputs))

    def undeclared(self, outputs: Iterable[str]) -> list[str]:
        """Return the names among `outputs` that the stage does not declare."""
        return list(itertools.filterfalse(matcher(self.writes), outputs))

    def shown(self, output: str) -> str:
        """Return the path of the stage's file `output`, relative to the workspace."""
        return f"{self.folder}/{self.rename.get(output, output)}"

    def needs(self) -> tuple[str, ...]:
        """Return the names of the artifacts that this one reads."""
        return tuple(dict.fromkeys([i.artifact for i in self.inputs if isinstance(i, Product)]))

    def environment(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the versions of packages, and the digests of variables that user code reads, that are in the key."""
        versions = dict(self.packages)
        variables: dict[str, str] = {}
        for item in self.inputs:
            if isinstance(item, Source) and (item.packages or item.variables):
                versions |= item.packages
                variables |= item.variables
        return versions, variables

    def code_of_users(self) -> tuple[Source, ...]:
        """Return the inputs that are user code."""
        return tuple(item for item in self.inputs if isinstance(item, Source) and item.modules)

    def label(self) -> str:
        """Return the short name for humans: `chip:2_10` or `train`."""
        return self.stage if self.scene is None else f"{self.stage}:{self.scene}"


def components(artifact: Artifact, inputs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return everything that determines the result of `artifact`: what the key digests and `why` compares.

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
    versions, variables = artifact.environment()
    if versions:
        parts["packages"] = versions
    if variables:
        parts["variables"] = variables
    return parts


def plain(value: Any) -> Any:
    """Return `value` as if written as JSON and read again: lists for tuples, and a copy."""
    return json.loads(canonical(value))


def trajectory(parts: Mapping[str, Any], ignores: Sequence[str]) -> str:
    """Return the key without the settings with the dotted paths in `ignores`, which identifies checkpoints."""
    settings = plain(parts["settings"])
    for dotted in ignores:
        *tables, last = dotted.split(".")
        place = settings
        for table in tables:
            place = place[table]
        place.pop(last, None)
    return digest({**parts, "settings": settings})
