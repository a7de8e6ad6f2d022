"""The command `rvbuild`: parse, call, print.

This module holds the shortest way out: a build whose seal holds is done before anything else is imported.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from pathlib import Path

from rvbuild.cli.words import INTERRUPTED, normal_words, silenced
from rvbuild.engine.plan import seal
from rvbuild.process.safe_path import protect
from rvbuild.project.workspaces import find_workspace

_ANEW = "RVBUILD_UTF8"
"""Set in a command that has begun anew: once is enough."""


def main() -> int:
    """Run the command line `sys.argv` and return the exit status."""
    protect()
    require_unicode()
    try:
        status = _main()
    except KeyboardInterrupt:  # before or after there is anything that could say more
        sys.stderr.write(f"{INTERRUPTED}\n")
        status = 130
    if status == 130:
        # All is put away. Python would wait for threads, and libraries for servers that say nothing.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status


def _main() -> int:
    _require_streams()
    words = sys.argv[1:]
    lines = _sealed(words)
    if lines is not None:
        if not all(map(str.isprintable, lines)):  # of files that are called so
            from rvbuild.cli.terminal import printable

            lines = [printable(line) for line in lines]
        try:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
        except BrokenPipeError:
            return silenced()
        except OSError as error:
            sys.stderr.write(f"standard output: {error.strerror}\n")
            return silenced()
        return 0
    # Planning thousands of artifacts makes objects that stay: looking for garbage among them costs half of its time.
    gc.disable()
    from rvbuild.cli.app import run

    return run(words)


def require_unicode() -> None:
    """Begin anew in Python's UTF-8 mode where names of files could not be written, as under an old locale."""
    if sys.getfilesystemencoding().lower() == "utf-8" or _ANEW in os.environ or not sys.executable:
        return
    os.environ[_ANEW] = "1"
    os.execv(sys.executable, [sys.executable, "-X", "utf8=1", *sys.orig_argv[1:]])


def _require_streams() -> None:
    """Open what the shell has closed: a database that took the number of standard output would get what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    # What an encoding lacks is shown as "?": no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _sealed(words: list[str]) -> list[str] | None:
    normal = normal_words(words)
    if normal is None:
        return None
    first = next(w for w in normal if w.endswith(".toml"))
    return seal.holds(seal.path_of(find_workspace(Path(first)) / "cache", normal), normal)
