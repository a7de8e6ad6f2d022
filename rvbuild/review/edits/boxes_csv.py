"""Boxes of a CSV: rows are changed, removed and added; all other lines stay as they are, byte for byte."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.marks import decoded
from rvbuild.review.edits.edit import Edit

_FIELD = re.compile(r'(?:^|(?<=,))(?:"(?:[^"]|"")*"[^,]*|[^,]*)')
"""A field of a record, as `csv` reads it."""

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def edit_csv(path: Path, edits: Sequence[Edit]) -> None:
    """Edit the rows of boxes.

    Raises
    ------
    DataError
        The file is no CSV in UTF-8, or has no column of labels although one is needed.
    """
    data = path.read_bytes()
    try:
        mark, text = decoded(data)
        lines = _records(text)
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be edited as CSV: {error}") from error
    if not lines:
        raise DataError(f"{path}: is empty, so the columns of its boxes are not known")
    ending = "\r\n" if lines[0].endswith("\r\n") else "\n"
    header = [name.strip() for name in _fields(lines[0])]
    if any(edit.values.get("label") is not None for edit in edits) and "label" not in header:
        raise DataError(f"{path}: has no column `label`, so a box cannot get a class; add one")
    rows = [line for line in lines[1:] if _fields(line)]  # as `csv.DictReader`, which leaves out empty lines
    places = [number for number, line in enumerate(lines) if number and _fields(line)]
    for edit in edits:
        if edit.action == "add":
            values = {name: "" for name in header} | {"image_path": edit.image or ""} | _values(edit)
            if lines[-1] and not lines[-1].endswith(("\n", "\r")):
                lines[-1] += ending
            lines.append(_line([values.get(name, "") for name in header], ending))
            continue
        assert edit.number is not None
        place = places[edit.number]
        if edit.action == "remove":
            lines[place] = ""
        else:
            line = rows[edit.number]
            texts = _texts(line)
            texts += [""] * (len(header) - len(texts))
            for name, value in _values(edit).items():
                column = header.index(name)
                texts[column] = _text(value, quoted=texts[column].startswith('"'))
            lines[place] = ",".join(texts) + line[len(line.rstrip("\r\n")) :]
    path.write_bytes((mark + "".join(lines)).encode())


def _values(edit: Edit) -> dict[str, str]:
    values = {} if edit.values.get("label") is None else {"label": str(edit.values["label"])}
    if edit.shape is not None:
        values |= {name: f"{value:.15g}" for name, value in zip(_SIDES, edit.shape.bounds, strict=True)}
    return values


def _records(text: str) -> list[str]:
    """Return the text of each record, with its line ending; a quoted field may go over several lines."""
    physical = io.StringIO(text, newline="").readlines()
    records, start = [], 0
    reader = csv.reader(iter(physical))
    for _ in reader:
        records.append("".join(physical[start : reader.line_num]))
        start = reader.line_num
    return records


def _fields(line: str) -> list[str]:
    return next(csv.reader(io.StringIO(line, newline="")), [])


def _texts(line: str) -> list[str]:
    """Return the fields of a record as they are written, with their quotes."""
    texts, fields = _FIELD.findall(line.rstrip("\r\n")), _fields(line)
    same = [next(iter(_fields(text)), "") for text in texts] == fields
    return texts if same else [_text(field, quoted=False) for field in fields]


def _text(value: str, *, quoted: bool) -> str:
    return _line([value], "") if not quoted else '"' + value.replace('"', '""') + '"'


def _line(fields: Sequence[str], ending: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending).writerow(fields)
    return text.getvalue()
