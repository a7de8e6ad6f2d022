"""The files that belong to an input: sidecar files that count, and files that it refers to, at any depth.

GDAL is asked in a worker, because planning does not load GDAL. The answer for a file is stored until the file, its
possible sidecars or the files of the answer change. Single-file formats without any possible sidecar need no question.
"""

from __future__ import annotations

import bisect
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.engine.store.fingerprint import is_racy
from rvbuild.engine.store.state import State
from rvbuild.files.urls import Url, to_path
from rvbuild.geo.dataset_files import RASTER, VECTOR, DatasetFiles
from rvbuild.geo.gdal.drivers import DIRECTORIES
from rvbuild.geo.gdal.quiet import JOURNALS

FUNCTION = "rvbuild.geo.dataset_files:ask"
"""The function that a worker calls."""

Question = tuple[str, Path]
Ask = Callable[[Sequence[Question]], Sequence[DatasetFiles]]

_VERSION = 1
"""Increased when answers change: stored answers are then asked for again."""

_DATABASES = (".gpkg", ".sqlite", ".sqlite3", ".db", ".mbtiles")

_ONE_FILE = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".bmp", ".webp", ".gif")
"""Suffixes of single-file formats: sidecars of such a file have its name."""

_OTHERS = {
    *(".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".geojson", ".json", ".gpkg", ".fgb", ".gml", ".kml"),
    *(".shp", ".shx", ".dbf", ".cpg", ".sbn", ".sbx", ".qix", ".csv", ".qml", ".sld", ".qgz"),
}
"""Suffixes that never belong to a file of `_ONE_FILE` of the same name: an image and its labels often share it."""

_PARTS = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".dbf": (".shp", ".shx", ".prj", ".cpg"),
    ".shx": (".shp", ".dbf", ".prj", ".cpg"),
    ".tab": (".dat", ".map", ".id", ".ind", ".dbf"),
    ".mif": (".mid",),
    ".mid": (".mif",),
    ".gml": (".gfs", ".xsd"),
    ".xml": (".gfs", ".xsd"),
    ".csv": (".csvt", ".prj"),
    ".tsv": (".csvt", ".prj"),
    ".psv": (".csvt", ".prj"),
    ".000": tuple(f".{number:03d}" for number in range(1, 1000)),
}
"""The parts of vector files, which GDAL does not list through fiona; a test compares them with GDAL's lists."""

_OVERVIEWS = ".ovr"
"""Pixels are read in full resolution; only virtual rasters may use overviews of their sources."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The files that belong to a file: its other parts, and the datasets that it refers to."""

    files: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()


_NOTHING = Answer()


class _Listing(NamedTuple):
    state: Signature
    listed_at: int  # ns
    names: list[str]  # sorted by their lower case
    low: list[str]  # the names in lower case


class Companions:
    """Finds the files that belong to inputs.

    Parameters
    ----------
    ask : callable
        Asks GDAL.
    state : State or None
        The store of answers.
    places : str
        The settings that limit where files may lead, since answers depend on them.
    """

    def __init__(self, ask: Ask, state: State | None = None, places: str = "") -> None:
        self._ask = ask
        self._state = state
        self._places = places
        self._listings: dict[str, _Listing | None] = {}
        self._answers: dict[Question, Answer] = {}
        self._kept: dict[Question, str] | None = None
        self._later: Companions | None = None
        self._lock = threading.Lock()

    def learn(self, questions: Iterable[Question]) -> None:
        """Answer questions and their follow-up questions, many at a time."""
        level = dict.fromkeys(questions)
        done: set[Question] = set()
        while level:
            done.update(level)
            self._find([question for question in level if question not in self._answers])
            level = {
                (kind, source): None
                for kind, path in level
                for source in self._answers[kind, path].sources
                if (kind, source) not in done
            }

    def of_raster(self, path: Path) -> tuple[Path, ...]:
        """Return the files that belong to a raster and affect its pixels, its georeference or its meaning."""
        return self._all(RASTER, path)

    def of_vector(self, path: Path) -> tuple[Path, ...]:
        """Return the files that belong to a vector file or directory."""
        return self._all(VECTOR, path)

    def listed(self) -> dict[str, int]:
        """Return the directories that were searched for files, with their mtime_ns before the search."""
        return {path: listing.state.mtime_ns for path, listing in self._listings.items() if listing is not None}

    def appeared(self, path: Path) -> tuple[Path, ...]:
        """Return the files that belong to a raster or vector file now, and did not when it was first asked about."""
        kinds = [kind for kind in (RASTER, VECTOR) if (kind, path) in self._answers]
        if isinstance(path, Url) or not kinds:
            return ()
        before = {kind: self._all(kind, path) for kind in kinds}
        folders = {
            str(member.parent) for files in before.values() for member in (path, *files) if not isinstance(member, Url)
        }
        if str(path) in self._listings:  # a directory
            folders.update(folder for folder in self._listings if Path(folder).is_relative_to(path))
        if self._shows(folders):
            return ()
        with self._lock:
            if self._later is None or not self._later._shows(folders):
                self._later = Companions(self._ask, self._state, self._places)
            later = self._later
            now = {kind: later._all(kind, path) for kind in kinds}
            later._list(folders)
        return tuple(dict.fromkeys(file for kind in kinds for file in now[kind] if file not in before[kind]))

    def _shows(self, folders: Iterable[str]) -> bool:
        """Tell whether directories still hold the listed names: adding or removing a file changes a directory."""
        for folder in folders:
            listing = self._listings.get(folder)
            state = signature(folder)
            if listing is None or state is None:
                if listing is not None or state is not None or folder not in self._listings:
                    return False
            elif listing.state != state or is_racy(state, listing.listed_at):
                return False
        return True

    def _list(self, folders: Iterable[str]) -> None:
        for folder in folders:
            self._listing(folder)

    def _all(self, kind: str, path: Path) -> tuple[Path, ...]:
        answer = self._answers.get((kind, path))
        if answer is None:
            self.learn([(kind, path)])
            answer = self._answers[kind, path]
        if answer is _NOTHING:
            return ()
        if not answer.sources:
            return tuple(file for file in answer.files if not file.name.lower().endswith(_OVERVIEWS))
        files: dict[Path, None] = {}
        self._gather(kind, path, files, {path})
        return tuple(files)

    def _gather(self, kind: str, path: Path, files: dict[Path, None], seen: set[Path]) -> None:
        answer = self._answers[kind, path]
        for file in answer.files:
            if len(seen) > 1 or not file.name.lower().endswith(_OVERVIEWS):
                files[file] = None
        for source in answer.sources:
            if source not in seen:
                seen.add(source)
                files[source] = None
                self._gather(kind, source, files, seen)

    # -- a single question --------------------------------------------------------------------------------------------

    def _find(self, questions: Sequence[Question]) -> None:
        left: list[Question] = []
        for question in questions:
            answer = self._without_asking(question) or self._recall(question)
            if answer is None:
                left.append(question)
            else:
                self._answers[question] = answer
        if not left:
            return
        before = [self._seen(question) for question in left]
        asked = time.time_ns()
        rows: list[tuple[str, str, str]] = []
        for question, seen, reply in zip(left, before, self._ask(left), strict=True):
            files, sources = tuple(map(to_path, reply["files"])), tuple(map(to_path, reply["sources"]))
            kind, path = question
            self._answers[question] = answer = self._completed(kind, path, files, sources)
            row = self._row(question, answer, seen, asked) if reply["complete"] and self._state is not None else None
            if row is not None:
                rows.append((kind, str(path), row))
        if rows and self._state is not None:
            self._state.remember_sidecar_answers(rows)

    def _without_asking(self, question: Question) -> Answer | None:
        """Return the answer for a file if it is known without asking; None otherwise."""
        kind, path = question
        if isinstance(path, Url):
            return _NOTHING  # GDAL is configured not to search for them
        suffix = path.suffix.lower()
        if kind == VECTOR:
            return None if suffix in (".vrt", ".tab", ".gml", ".xml") else Answer(self._parts(path))
        if suffix in _DATABASES:
            return Answer(self._called(path, [path.name + ending for ending in (*JOURNALS, ".aux.xml")]))
        if suffix in DIRECTORIES:
            return Answer(self._inside(path))
        if suffix not in _ONE_FILE:
            return None
        beside = self._beside(path)
        if not beside:
            return _NOTHING
        ends = {name[len(path.name) :] for name in beside if name.startswith(path.name)}
        # GDAL reads each of these for any format.
        known = len(ends) == len(beside) and ends <= {".aux.xml", ".msk", _OVERVIEWS}
        return Answer(tuple(map(path.with_name, beside))) if known else None

    def _completed(self, kind: str, path: Path, files: Sequence[Path], sources: tuple[Path, ...]) -> Answer:
        """Return the answer for a file from the reply of a worker."""
        if kind == VECTOR:
            return Answer(tuple(dict.fromkeys((*self._parts(path), *files))), sources)
        if path.suffix.lower() in _ONE_FILE:
            # Other files of a product, such as the sun angles of all bands, affect neither pixels nor georeference.
            return Answer(tuple(file for file in files if _is_called_after(path, file)), sources)
        return Answer(tuple(files), sources)

    def _parts(self, path: Path) -> tuple[Path, ...]:
        """Return the parts of a vector file or directory."""
        suffix = path.suffix.lower()
        if suffix in _DATABASES:
            return self._called(path, [path.name + ending for ending in JOURNALS])
        if suffix in DIRECTORIES or (suffix not in _OTHERS and suffix not in _PARTS and path.is_dir()):
            return self._inside(path)
        return self._called(path, [path.stem + part for part in _PARTS.get(suffix, ())])

    def _called(self, path: Path, wanted: Sequence[str]) -> tuple[Path, ...]:
        """Return the files beside `path` with the given names, in any case, in the order of the names."""
        if not wanted:
            return ()
        order = {name.lower(): number for number, name in enumerate(wanted)}
        ordered = [(order[low], name) for low, name in self._names(path, path.stem) if low in order]
        return tuple(path.with_name(name) for _, name in sorted(ordered))

    def _inside(self, path: Path) -> tuple[Path, ...]:
        """Return all files in a directory and its subdirectories."""
        paths: list[Path] = []
        for folder, _, _ in os.walk(path):
            self._listing(folder)
        for folder, _, names in os.walk(path):
            paths += [Path(folder, name) for name in names]
        return tuple(sorted(paths))

    # -- files beside a file ------------------------------------------------------------------------------------------

    def _listing(self, folder: str) -> _Listing | None:
        if folder not in self._listings:
            state, listed_at = signature(folder), time.time_ns()
            pairs: list[tuple[str, str]] = []
            try:
                pairs = sorted((entry.name.lower(), entry.name) for entry in os.scandir(folder))
            except (FileNotFoundError, NotADirectoryError):
                state = None
            low, names = [low for low, _ in pairs], [name for _, name in pairs]
            self._listings[folder] = None if state is None else _Listing(state, listed_at, names, low)
        return self._listings[folder]

    def _names(self, path: Path, beginning: str) -> list[tuple[str, str]]:
        """Return the names beside `path` with this beginning, in any case: in lower case, and original."""
        listing = self._listing(os.path.dirname(path))  # noqa: PTH120 - for thousands of scenes
        if listing is None:
            return []
        names, low = listing.low, beginning.lower()
        start = end = bisect.bisect_left(names, low)
        while end < len(names) and names[end].startswith(low):
            end += 1
        return list(zip(names[start:end], listing.names[start:end], strict=True))

    def _beside(self, path: Path) -> list[str]:
        """Return the names beside `path` that may belong to it, as far as is known without GDAL."""
        own, suffix = path.name, path.suffix
        beginning = own.removesuffix(suffix)
        stem, one_file = len(beginning.lower()), suffix.lower() in _ONE_FILE
        names: list[str] = []
        for low, name in self._names(path, beginning):
            rest = low[stem : stem + 1]
            if name == own or not rest or rest.isalnum():
                continue
            if not one_file or os.path.splitext(low)[1] not in _OTHERS:  # noqa: PTH122 - for thousands of scenes
                names.append(name)
        return names

    # -- stored answers -----------------------------------------------------------------------------------------------

    def _seen(self, question: Question) -> list[tuple[str, Signature | None]]:
        """Return the state that an answer depends on, before the question is asked."""
        path = question[1]
        return [(str(file), signature(file)) for file in (path, *map(path.with_name, self._beside(path)))]

    def _row(
        self, question: Question, answer: Answer, seen: list[tuple[str, Signature | None]], asked: int
    ) -> str | None:
        """Return an answer in stored form; None if its files may change without a visible difference."""
        path = question[1]
        known = dict(seen)
        for file in answer.files:
            if not isinstance(file, Url) and str(file) not in known:
                known[str(file)] = signature(file)
        if any(state is not None and is_racy(state, asked) for state in known.values()):
            return None
        beside = all(_is_called_after(path, file) for file in answer.files)
        row = {
            "version": _VERSION,
            "places": self._places,
            "files": [*map(str, answer.files)],
            "sources": [*map(str, answer.sources)],
            "seen": [[name, state] for name, state in known.items()],
            "names": self._digest(path, beside),
            "beside": beside,
        }
        return json.dumps(row, separators=(",", ":"))

    def _digest(self, path: Path, beside: bool) -> str:
        """Return a digest of the names beside a file that may belong to it, or of all names."""
        if beside:
            names = self._beside(path)
        else:
            listing = self._listing(os.path.dirname(path))  # noqa: PTH120 - for thousands of scenes
            names = [] if listing is None else listing.names
        return xxhash.xxh3_128_hexdigest("\0".join(names).encode("utf-8", "surrogateescape"))

    def _recall(self, question: Question) -> Answer | None:
        """Return the stored answer, if nothing that it depends on has changed."""
        if self._state is None:
            return None
        if self._kept is None:
            self._kept = {(kind, Path(path)): text for kind, path, text in self._state.sidecar_answers()}
        text = self._kept.get(question)
        try:
            row: dict[str, Any] = {} if text is None else json.loads(text)
            if row.get("version") != _VERSION or row["places"] != self._places:
                return None
            if any(signature(name) != (None if state is None else Signature(*state)) for name, state in row["seen"]):
                return None
            if row["names"] != self._digest(question[1], row["beside"]):
                return None
            return Answer(tuple(map(to_path, row["files"])), tuple(map(to_path, row["sources"])))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def _is_called_after(path: Path, file: Path) -> bool:
    return file.parent == path.parent and file.name.lower().startswith(path.stem.lower())
