from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rvbuild.files.plain_xml import XmlError, parse, require_no_document_type

BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation>&c;</annotation>"""


@pytest.mark.parametrize(
    "text",
    [
        b"<a/>",
        b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?>\n<a b='1'>x<c>y</c>z<!-- w --><![CDATA[<&]]></a>",
        "<?xml version='1.0' encoding='iso-8859-1'?><a>é&#233;&amp;</a>".encode("latin-1"),
        "<?xml version='1.0' encoding='utf-16'?><a>é</a>".encode("utf-16"),
        b"<?xml version='1.0' encoding='windows-1252'?><a>\x80</a>",
    ],
)
def test_plain_documents_are_those_of_the_standard_library(text: bytes) -> None:
    expected = ElementTree.fromstring(text)
    assert ElementTree.tostring(parse(text), "unicode") == ElementTree.tostring(expected, "unicode")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has a document type"),
        (BOMB.decode().encode("utf-16"), "has a document type"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "has a document type"),
        (b"<a>" * 200_000 + b"</a>" * 200_000, "nested more than 100 deep"),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", "unknown encoding: klingon; save it as UTF-8"),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "save it as UTF-8"),
        (b"<?xml version='1.0' encoding='gb18030'?><a/>", "save it as UTF-8"),
        (b"<?xml version='1.0' encoding='rot13'?><a/>", "save it as UTF-8"),
        (b"", "no element found"),
        (b"<a>", "no element found"),
        (b"<a></b>", "mismatched tag"),
        (b"<a>&b;</a>", "undefined entity"),
        (b"<a>\xff</a>", "not well-formed"),
    ],
    ids=range(13),
)
def test_anything_else_is_refused_at_once(text: bytes, message: str) -> None:
    start = time.thread_time()
    with pytest.raises(XmlError, match=message):
        parse(text)
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (BOMB, True),
        (BOMB.decode().encode("utf-16"), True),
        (b"<!--" + b"x" * 100_000 + b"-->" + BOMB.partition(b"?>")[2], True),
        (b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'><a/>", True),
        (b"<a><!DOCTYPE a></a>", False),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", False),
        (b'{"type": "FeatureCollection"}', False),
        (b"SQLite format 3\0", False),
        (b"", False),
    ],
    ids=range(9),
)
def test_a_document_type_is_found_before_a_file_is_read(tmp_path: Path, content: bytes, refused: bool) -> None:
    path = tmp_path / "a.gml"
    path.write_bytes(content)
    if refused:
        with pytest.raises(XmlError, match="has a document type"):
            require_no_document_type(path)
    else:
        require_no_document_type(path)
