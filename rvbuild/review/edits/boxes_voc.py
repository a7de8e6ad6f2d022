"""Boxes of a Pascal VOC file: only the texts that change are written anew; all other bytes stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import ParseError
from xml.parsers import expat
from xml.sax.saxutils import escape

from rvbuild.errors import DataError
from rvbuild.files.plain_xml import parse
from rvbuild.review.edits.edit import Edit

_SIDES = ("xmin", "ymin", "xmax", "ymax")

Span = tuple[int, int]


def edit_voc(path: Path, edits: Sequence[Edit]) -> None:
    """Edit objects.

    Raises
    ------
    DataError
        The file is no annotation, or has no text where one shall be set.
    """
    data = path.read_bytes()
    try:
        parse(data)  # without a document type, whose entities could be anything
        objects, end, encoding = _spans(data)
        ending = "\r\n" if b"\r\n" in data else "\n"
        replacements: list[tuple[Span, bytes]] = []
        for edit in edits:
            if edit.action == "add":
                replacements.append(((end, end), _object(edit, ending).encode(encoding, "xmlcharrefreplace")))
                continue
            assert edit.number is not None
            spans = objects[edit.number]
            if edit.action == "remove":
                start, stop = spans["object"]
                # With the blanks before it, so that no empty line is left.
                while data[start - 1 : start] in (b" ", b"\t", b"\n", b"\r"):
                    start -= 1
                replacements.append(((start, stop), b""))
            else:
                for name, text in _texts(edit).items():
                    begun, ended = spans[name]
                    if begun > ended:
                        raise ValueError(f"<{name}/> is empty")
                    replacements.append((spans[name], escape(text).encode(encoding, "xmlcharrefreplace")))
    except (ValueError, LookupError, ParseError, expat.ExpatError) as error:
        raise DataError(f"{path}: cannot be edited as Pascal VOC XML: {error!r}") from error
    written, place = b"", 0
    for (start, stop), new in sorted(replacements, key=lambda replacement: replacement[0]):
        written += data[place:start] + new
        place = stop
    path.write_bytes(written + data[place:])


def _spans(data: bytes) -> tuple[list[dict[str, Span]], int, str]:
    """Return where each object and its texts stand in bytes, where the last closing tag begins, and the encoding."""
    objects: list[dict[str, Span]] = []
    path: list[str] = []
    opened: list[int] = []
    end, encoding = 0, "utf-8"
    parser = expat.ParserCreate()

    def declared(_version: str, name: str | None, _standalone: int) -> None:
        nonlocal encoding
        encoding = name or encoding

    def start(name: str, _attributes: object) -> None:
        path.append(name)
        if path[1:] == ["object"]:
            objects.append({})
        opened.append(parser.CurrentByteIndex)

    def stop(name: str) -> None:
        nonlocal end
        begun, closing = opened.pop(), parser.CurrentByteIndex
        if path[1:] == ["object"]:
            objects[-1]["object"] = (begun, data.index(b">", closing) + 1)
        elif path[1:2] == ["object"] and (path[2:] == ["name"] or path[2:3] == ["bndbox"]):
            objects[-1].setdefault(name, (data.index(b">", begun) + 1, closing))
        elif len(path) == 1:
            end = closing
        path.pop()

    parser.XmlDeclHandler = declared
    parser.StartElementHandler = start
    parser.EndElementHandler = stop
    parser.Parse(data, True)
    return objects, end, encoding


def _texts(edit: Edit) -> dict[str, str]:
    texts = {} if edit.values.get("label") is None else {"name": str(edit.values["label"])}
    if edit.shape is not None:
        texts |= {name: f"{value:.15g}" for name, value in zip(_SIDES, edit.shape.bounds, strict=True)}
    return texts


def _object(edit: Edit, ending: str) -> str:
    texts = _texts(edit)
    name = f"<name>{escape(texts['name'])}</name>" if "name" in texts else ""
    box = "".join(f"<{side}>{texts[side]}</{side}>" for side in _SIDES)
    return f"  <object>{name}<bndbox>{box}</bndbox></object>{ending}"
