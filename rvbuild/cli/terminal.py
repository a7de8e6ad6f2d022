r"""What reaches a terminal: the only place that prints.

Names of scenes, layers, assets and files are others' texts, and so are messages of libraries. Whatever could move the
cursor, change the title or hide something is shown as an escape (`\x1b`), whoever wrote it; our own colours are marked
with a secret of this process, which no text can hold.
"""

from __future__ import annotations

import os
import re

import click

_SECRET = os.urandom(8).hex()
_MARK = re.compile(f"\x1b{_SECRET}:([a-z]*);")

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line feed and tab, other ends of lines, what turns the direction of all that follows, and
halves of characters."""


def printable(text: str) -> str:
    r"""Return a text in which nothing but letters is left: a terminal does nothing but show it.

    >>> printable("a\x1b[2Jb\x9b31m\u202ec"), printable("é 🌲\n\tא")
    ('a\\x1b[2Jb\\x9b31m\\u202ec', 'é 🌲\n\tא')
    """
    return text if text.isascii() and text.isprintable() else UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def styled(text: str, colour: str | None) -> str:
    """Return a text in a colour, unless the user wants none (https://no-color.org) or the terminal has none."""
    plain = colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b{_SECRET}:{colour};{text}\x1b{_SECRET}:;"


def rendered(text: str) -> str:
    """Return a text as a terminal takes it: printable, with the colours of `styled`."""
    first, *rest = _MARK.split(text)
    found = printable(first)
    for colour, part in zip(rest[::2], rest[1::2], strict=True):
        found += (click.style("", fg=colour, reset=False) if colour else "\x1b[0m") + printable(part)
    return found


def echo(text: str = "", err: bool = False, file: object = None) -> None:
    """Print a line for people: on standard output, on standard error with `err`, or into `file`."""
    click.echo(rendered(text), err=err, file=file)  # type: ignore[arg-type]


def echo_exactly(text: str) -> None:
    """Print a document for programs on standard output as it is."""
    click.echo(text)
