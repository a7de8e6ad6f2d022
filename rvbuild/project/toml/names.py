"""Names that become files: project names, scene ids and class names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from rvbuild.project.toml.keys import show

_FORBIDDEN = '/\\*?"<>|'
_LONGEST = 200  # bytes in UTF-8: leaves room for the suffixes of outputs in a name of at most 255 bytes

RESERVED_SCENES = {
    "stats": "the merged statistics are written as analyze/stats.json",
    "eval": "the merged evaluation is written as eval/eval.json",
}
"""Scene ids that would overwrite merged outputs → reason; compared without regard to case."""

RESERVED_PROJECTS = {
    name: f"rvbuild keeps its own files in cache/{name}"
    for name in ("doit.db", "lock", "log", "seals", "state.db", "store", "tmp")
}
"""Project names that would overwrite rvbuild's own files → reason; compared without regard to case."""

RESERVED_CLASSES = {
    "error": 'options such as labels.other use "error" for "stop with an error"',
    "drop": 'the option labels.unknown uses "drop" for "leave the feature out"',
}
"""Class names that are values of options → reason; compared without regard to case."""


def folded(name: str) -> str:
    """Return the name as seen by a file system that ignores case and Unicode composition."""
    return unicodedata.normalize("NFC", name).casefold()


def name_problem(name: str, reserved: Mapping[str, str]) -> str | None:
    """Return why a name cannot be a file name, or None.

    Parameters
    ----------
    name
        The name.
    reserved
        Reserved names → reason.

    Examples
    --------
    >>> name_problem("a/b", {})
    'cannot be used in a file name: "a/b" holds "/"'
    """
    forbidden = [letter for letter in name if letter in _FORBIDDEN]
    if not name:
        reason = "is empty"
    elif forbidden:
        reason = f"holds {show(forbidden[0])}"
    elif not name.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        reason = "holds a control character"
    elif name[0] in ".-":
        reason = f'begins with "{name[0]}"'
    elif name != name.strip() or name.endswith("."):
        reason = "begins or ends with a space, or ends with a dot"
    elif len(name.encode()) > _LONGEST:
        reason = f"is longer than {_LONGEST} bytes"
    elif folded(name) in reserved:
        return f"{show(name)} is reserved: {reserved[folded(name)]}; choose another name"
    else:
        return None
    return f"cannot be used in a file name: {show(name) if name else 'the name'} {reason}"


def clashes(names: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Yield `(position, name, earlier name)` for names that are equal to some file systems.

    Equal names are not reported here; callers handle them.
    """
    seen: dict[str, str] = {}
    for number, name in enumerate(names):
        earlier = seen.setdefault(folded(name), name)
        if earlier != name:
            yield number, name, earlier
