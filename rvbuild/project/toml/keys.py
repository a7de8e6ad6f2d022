"""Keys of a project file: the path to a value, as table keys and list positions.

`("predict", "vectors", 0, "class")` is written `predict.vectors[0].class` for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TypeAlias

Key: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dotted(key: Iterable[str | int]) -> str:
    """Return a key as TOML writes it, with list positions in brackets.

    >>> dotted(("scenes", "by_id", "top.1", "channels", 2))
    'scenes.by_id."top.1".channels[2]'
    """
    text = ""
    for step in key:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step if _BARE.fullmatch(step) else json.dumps(step, ensure_ascii=False)
            text += f".{word}" if text else word
    return text


def is_under(key: Key, parent: Key) -> bool:
    """Tell whether `key` is `parent` or inside it."""
    return key[: len(parent)] == parent


def show(value: object, limit: int = 60, depth: int = 3) -> str:
    """Return a value as TOML writes it; a long one is shortened or described.

    >>> show(True), show("a"), show([1, 2]), show({"a": 1})
    ('true', '"a"', '[1, 2]', 'a table')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= limit else text[: limit - 4] + '…"'
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list | tuple):
        if depth == 0:
            return "[…]" if value else "[]"
        text = "[" + ", ".join(show(item, limit, depth - 1) for item in value[: limit // 2]) + "]"
        return text if len(text) <= limit else f"a list of {len(value)}"
    text = hex(value) if isinstance(value, int) and abs(value) >> 200 else str(value)  # Python prints none of thousands
    return text if len(text) <= limit else text[: limit - 1] + "…"
