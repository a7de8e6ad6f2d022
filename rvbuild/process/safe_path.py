"""The module path: it never contains the current directory, which may belong to somebody else.

Only `os` and `sys` are imported here, not even `__future__`: Python has loaded them before it searches any path.
"""

import os
import sys

_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - see above
"""The directory that contains the package; it stays on the path even if the command is started there."""


def protect() -> None:
    """Remove the current directory from the module path of this process and its child processes.

    Other entries of `PYTHONPATH` are kept.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        current = os.getcwd()  # noqa: PTH109 - see above
    except OSError:  # the directory was removed
        current = ""
    remaining = [entry for entry in sys.path if not _is_current(entry, current)]
    sys.path[:] = [*remaining, _HOME] if current == _HOME and _HOME not in remaining else remaining
    written = os.environ.get("PYTHONPATH")
    if written is not None:
        entries = [e for e in written.split(os.pathsep) if not _is_current(e, current) or (e and current == _HOME)]
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        if not entries:
            del os.environ["PYTHONPATH"]


def _is_current(entry: str, current: str) -> bool:
    return not entry or os.path.abspath(entry) == current or os.path.realpath(entry) == current  # noqa: PTH100
