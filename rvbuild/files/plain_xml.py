"""A parser for XML without document types, which data files do not need and whose entities can fill the memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers import expat

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_DEPTH = 100
"""Maximum nesting depth of elements."""


class XmlError(ValueError):
    """The text is not XML that can be read; the message gives the reason."""


def parse(content: bytes) -> Element:
    """Return the root of a document.

    Raises
    ------
    XmlError
        It is not well-formed, has a document type or an unknown encoding, or is nested too deeply.

    >>> parse(b"<a><b>c</b></a>").findtext("b")
    'c'
    """
    from xml.etree.ElementTree import TreeBuilder  # takes milliseconds, and planning rarely needs it

    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise XmlError(f"its elements are nested more than {MAX_DEPTH} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise XmlError(str(error)) from None
    except (LookupError, UnicodeError) as error:
        raise XmlError(f"its encoding is not known: {error}; save it as UTF-8") from None
    except XmlError:
        raise
    except ValueError as error:  # encodings that expat cannot read
        raise XmlError(f"{error}; save it as UTF-8") from None
    return builder.close()


def require_no_document_type(path: Path) -> None:
    """Raise an error for a document type before another library reads the file; accept any other file, XML or not.

    Only the text before the first element is read, in pieces.

    Raises
    ------
    XmlError
        The file has a document type.
    OSError
        The file cannot be read.
    """
    parser, elements = expat.ParserCreate(), 0

    def start(*_: object) -> None:
        nonlocal elements
        elements += 1

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse_document_type
    piece = None
    with path.open("rb") as file:
        while not elements and piece != b"":
            piece = file.read(_PIECE)
            try:
                # The end has to be told: from version 2.6 on, expat may put off what it has not seen the end of.
                parser.Parse(piece, piece == b"")
            except XmlError:
                raise
            except (expat.ExpatError, LookupError, ValueError):
                return  # not XML, or not for expat: the library that reads the file reports it


_PIECE = 4096


def _refuse_document_type(*_: object) -> None:
    raise XmlError("it has a document type (<!DOCTYPE …>), which data files do not need; remove it")
