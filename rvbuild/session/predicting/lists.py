"""Lists of images: texts with a path a line, and tables in CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from rvbuild.errors import DataError
from rvbuild.files.readers import reason
from rvbuild.files.urls import to_path

COLUMNS = ("image", "path", "file", "filename", "location", "href", "url")
"""The columns of a table that may hold the images, the first that there is."""

NAME = "name"
"""The column of a table with the names of results."""


@dataclass(frozen=True)
class Entry:
    """An entry of a list, or a word of the command.

    Attributes
    ----------
    text : str
        The path, address or pattern.
    name : str
        The name of the result; empty for the default.
    file : str
        The list; empty for a word of the command.
    line : int
        The line in the list.
    """

    text: str
    name: str = ""
    file: str = ""
    line: int = 0

    @property
    def where(self) -> str:
        """The place of the entry, as the beginning of a message."""
        return f"{self.file}:{self.line}: " if self.file else ""


def entries(path: str) -> list[Entry]:
    """Return the entries of a list.

    A table (.csv) names images in the first of `COLUMNS` that its header has, or else in its first column, and may
    name their results in the column `name`. Any other list has a path or an address a line. Lines that are empty or
    begin with # do not count.

    Parameters
    ----------
    path
        The path or the address of the list.

    Raises
    ------
    DataError
        It cannot be read, or is empty.
    """
    source = to_path(path)
    try:
        with source.open("rb") as file:
            text = bytes(file.read()).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no such file: {path}; expected a list of images") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of images: {reason(error)}") from None
    found = _of_table(text, path) if source.suffix.lower() == ".csv" else _of_lines(text, path)
    if not found:
        raise DataError(f"{path}: names no image; expected a path or an address a line")
    return found


def _of_lines(text: str, path: str) -> list[Entry]:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [Entry(line, "", path, number) for number, line in lines if line and not line.startswith("#")]


def _of_table(text: str, path: str) -> list[Entry]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(number, row) for number, row in rows if any(row) and not row[0].startswith("#")]
    header = [cell.casefold() for cell in rows[0][1]] if rows else []
    column = next((header.index(name) for name in COLUMNS if name in header), None)
    if column is None:
        return [Entry(row[0], "", path, number) for number, row in rows if row[0]]
    named = header.index(NAME) if NAME in header else None
    return [
        Entry(row[column], row[named] if named is not None and named < len(row) else "", path, number)
        for number, row in rows[1:]
        if column < len(row) and row[column]
    ]
