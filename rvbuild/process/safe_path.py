"""Where modules come from: never the directory that a command is started in, which may be somebody else's.

Nothing but `os` and `sys` is imported here, not even `__future__`: Python has loaded them before it looks anywhere.
"""

import os
import sys

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - see above
"""The directory that holds the package, which stays on the path wherever the command is started."""


def protect() -> None:
    """Take the current directory off the path of this process and of all that it starts.

    `PYTHONPATH` keeps what it names otherwise.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        here = os.getcwd()  # noqa: PTH109 - see above
    except OSError:  # it was removed
        here = ""
    kept = [entry for entry in sys.path if not _is_here(entry, here)]
    sys.path[:] = [*kept, _HOME] if here == _HOME and _HOME not in kept else kept
    written = os.environ.get("PYTHONPATH")
    if written is not None:
        entries = [e for e in written.split(os.pathsep) if not _is_here(e, here) or (e and here == _HOME)]
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        if not entries:
            del os.environ["PYTHONPATH"]


def _is_here(entry: str, here: str) -> bool:
    return not entry or os.path.abspath(entry) == here or os.path.realpath(entry) == here  # noqa: PTH100
