"""What the words of `rvbuild predict BUNDLE` stand for: files, folders, patterns, STAC items and lists."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvbuild.engine.store.inside import is_path
from rvbuild.errors import DataError, UsageError, either
from rvbuild.files.address import is_url
from rvbuild.files.leftovers import is_leftover
from rvbuild.files.urls import Url, to_path
from rvbuild.geo.gdal.drivers import DIRECTORIES
from rvbuild.project.scenes.stac import StacError, StacReader, features
from rvbuild.session.predicting.lists import Entry, entries

IMAGES = (".tif", ".tiff", ".jp2", ".j2k", ".img", ".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Suffixes of the images in a folder. A virtual raster is not among them: its parts often lie beside it."""

ITEMS = (".json", ".geojson")
LISTS = (".txt", ".csv")

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Image:
    """An image file that a word stands for.

    Attributes
    ----------
    name : str
        The directory of its result, relative to that of all results.
    path : Path
        Its path or address.
    single : bool
        Whether it was named itself, so that it may be a layer of a stack.
    """

    name: str
    path: Path
    single: bool


@dataclass(frozen=True)
class Item:
    """A STAC item that a word stands for.

    Attributes
    ----------
    name : str
        The directory of its result: its id.
    content : mapping
        The item.
    where : str
        The path or address of its file.
    """

    name: str
    content: Mapping[str, object]
    where: str


def find(words: Sequence[str], out: Path) -> list[Image | Item]:
    """Return the images and items that words stand for, in the order of the words.

    Parameters
    ----------
    words
        Paths and addresses of images, of STAC items (.json), of lists (.txt, .csv, or anything after an @), folders,
        which are searched at any depth, and patterns.
    out
        The absolute path of the directory of results, in which nothing is searched.

    Raises
    ------
    UsageError
        With all problems: what does not exist, is empty, or cannot be read.
    """
    search = _Search(out)
    for word in words:
        search.word(word)
    if search.problems:
        raise UsageError("\n".join(search.problems))
    return search.found


class _Search:
    def __init__(self, out: Path) -> None:
        self.found: list[Image | Item] = []
        self.problems: list[str] = []
        self._out = out
        self._stac = StacReader()

    def word(self, word: str) -> None:
        """Add what a word of the command stands for."""
        listed = word.removeprefix("@")
        if (listed != word and not Path(word).exists()) or _suffix(word) in LISTS:
            self._list(listed if listed != word else word)
        else:
            self._entry(Entry(word))

    def _list(self, path: str) -> None:
        try:
            lines = entries(path)
        except DataError as error:
            self.problems.append(str(error))
            return
        for entry in lines:
            if entry.text.startswith("@") or _suffix(entry.text) in LISTS:
                self.problems.append(f"{entry.where}{entry.text}: a list cannot name another list")
            else:
                self._entry(entry)

    def _entry(self, entry: Entry) -> None:
        """Add what a word or an entry of a list stands for, other than a list."""
        text = entry.text
        if _suffix(text) in ITEMS and (is_url(text) or Path(text).is_file()):
            self._items(text, entry.where)
        elif is_url(text):
            if _MAGIC.search(Url(text).name.replace("?", "")):
                self._problem(entry, "remote folders cannot be searched; name files, items or a list")
            else:
                self._image(entry.name or Url(text).stem, Url(text), single=True)
        elif Path(text).is_dir() and Path(text).suffix.lower() not in DIRECTORIES:
            self._folder(entry)
        elif Path(text).exists():
            self._image(entry.name or Path(text).stem, _absolute(text), single=True)
        elif _MAGIC.search(text):
            self._pattern(entry)
        else:
            self._missing(entry)

    def _missing(self, entry: Entry) -> None:
        hint = ""
        beside = os.path.join(os.path.dirname(entry.file), entry.text)  # noqa: PTH118, PTH120 - as the text is
        if entry.file and Path(beside).exists():
            hint = f"; paths in a list are relative to the current directory, as in GDAL: there is {beside}"
        self.problems.append(f"{entry.where}no such file: {entry.text}{hint}")

    def _problem(self, entry: Entry, text: str) -> None:
        self.problems.append(f"{entry.where}{entry.text}: {text}")

    def _folder(self, entry: Entry) -> None:
        folder = _absolute(entry.text)
        paths = [path for path in _below(folder, self._out) if path.suffix.lower() in IMAGES]
        if not paths:
            self._problem(entry, f"is a folder without images ({either(IMAGES)}), at any depth")
        self._mirror(paths, folder)

    def _pattern(self, entry: Entry) -> None:
        fixed = re.split(r"[^/]*[*?[]", entry.text, maxsplit=1)[0]  # the folders before the first one with a wildcard
        last = entry.text.rpartition("/")[2]
        any_suffix = _MAGIC.search(Path(last).suffix) is not None or not Path(last).suffix
        paths = []
        for text in sorted(glob.glob(entry.text, recursive=True), key=lambda path: Path(path).parts):  # noqa: PTH207
            path = _absolute(text)
            if self._is_own(path) or not path.is_file() or is_leftover(os.path.relpath(path, _absolute(fixed or "."))):
                continue
            if not any_suffix or path.suffix.lower() in (*IMAGES, *ITEMS):
                paths.append(path)
        if not paths:
            self._problem(entry, "no image matches")
        for path in (path for path in paths if path.suffix.lower() in ITEMS):
            self._items(str(path), entry.where)
        self._mirror([path for path in paths if path.suffix.lower() not in ITEMS], _absolute(fixed or "."))

    def _is_own(self, path: Path) -> bool:
        return path.is_relative_to(self._out)

    def _mirror(self, paths: Sequence[Path], base: Path) -> None:
        """Add images whose results lie as they do below `base`."""
        for path in paths:
            self._image(path.relative_to(base).with_suffix("").as_posix(), path, single=False)

    def _image(self, name: str, path: Path, *, single: bool) -> None:
        if not is_path(name) or not _is_text(str(path)):
            self.problems.append(f"{path}: its result would be called {name!r}, which is no name of a file")
        else:
            self.found.append(Image(name, path, single))

    def _items(self, text: str, where: str) -> None:
        place = text if is_url(text) else str(_absolute(text))
        try:
            items = features(self._stac.content(Path(), place))
        except StacError as error:
            self.problems.append(f"{where}{text}: {error}")
            return
        for item in items:
            id_ = item.get("id")
            name = re.sub(r"[/\\]", "_", id_) if isinstance(id_, str) else ""
            if is_path(name):
                self.found.append(Item(name, item, place))
            else:
                self.problems.append(f"{where}{text}: an item has the id {id_!r:.80}, which is no name of a file")


def _suffix(text: str) -> str:
    return to_path(text).suffix.lower()


def _is_text(path: str) -> bool:
    """Tell whether a path is valid UTF-8, as records of predictions need."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(text))  # noqa: PTH100 - symbolic links of the user are kept


def _below(folder: Path, out: Path) -> list[Path]:
    """Return the files at any depth in a folder, in the order of their paths, without leftovers and results."""
    paths: list[Path] = []
    pending = [(folder, frozenset[str]())]
    while pending:
        place, above = pending.pop()
        real = os.path.realpath(place)
        if real in above:  # a link to a folder above
            continue
        for entry in os.scandir(place):
            path = place / entry.name
            if entry.is_dir():
                pending += [] if _is_aside(path, out) else [(path, above | {real})]
            elif not is_leftover(entry.name):
                paths.append(path)
    return sorted(paths, key=lambda path: path.parts)


def _is_aside(folder: Path, out: Path) -> bool:
    """Tell whether a folder is not searched: that of results, of the system, and formats that are a directory."""
    return folder == out or is_leftover(f"{folder.name}/x") or folder.suffix.lower() in DIRECTORIES
