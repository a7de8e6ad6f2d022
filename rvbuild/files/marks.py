"""The byte order mark with which Windows' editors begin a text."""

from __future__ import annotations

_MARK = "\ufeff"


def decoded(data: bytes) -> tuple[str, str]:
    """Return the byte order mark of a text in UTF-8, or an empty string, and the text after it.

    Raises
    ------
    UnicodeDecodeError
        It is no UTF-8.
    """
    text = data.decode("utf-8")
    mark = _MARK if text.startswith(_MARK) else ""
    return mark, text.removeprefix(mark)
