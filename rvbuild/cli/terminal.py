r"""Output to terminals: the only place that prints.

Names of scenes, layers, assets and files, and messages of libraries, are not trusted. Characters that could move the
cursor, change the title or hide something are printed as escapes (`\x1b`). Our own colours are marked with a secret of
this process, which no text can contain.
"""

from __future__ import annotations

import os
import re

import click

_SECRET = os.urandom(8).hex()
_MARK = re.compile(f"\x1b{_SECRET}:([a-z]*);")

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except line feed and tab, other line ends, characters that change the direction of the text that
follows, and surrogates."""


def printable(text: str) -> str:
    r"""Return a text without control characters, which a terminal only displays.

    >>> printable("a\x1b[2Jb\x9b31m\u202ec"), printable("é 🌲\n\tא")
    ('a\\x1b[2Jb\\x9b31m\\u202ec', 'é 🌲\n\tא')
    """
    return text if text.isascii() and text.isprintable() else UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def styled(text: str, colour: str | None) -> str:
    """Return a coloured text, unless the user disables colours (https://no-color.org) or the terminal has none."""
    plain = colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b{_SECRET}:{colour};{text}\x1b{_SECRET}:;"


def rendered(text: str) -> str:
    """Return a text for a terminal: printable, with the colours of `styled`."""
    first, *parts = _MARK.split(text)
    result = printable(first)
    for colour, part in zip(parts[::2], parts[1::2], strict=True):
        result += (click.style("", fg=colour, reset=False) if colour else "\x1b[0m") + printable(part)
    return result


def echo(text: str = "", err: bool = False, file: object = None) -> None:
    """Print a line for users: on standard output, on standard error with `err`, or into `file`."""
    click.echo(rendered(text), err=err, file=file)  # type: ignore[arg-type]


def echo_exactly(text: str) -> None:
    """Print a document for programs on standard output unchanged."""
    click.echo(text)
