"""The command `rvbuild`: parse, call, print.

This module contains the fast path: if the seal of a build is valid, the command ends before anything else is imported.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys

from rvbuild.cli.words import INTERRUPTED, normal_words, silenced
from rvbuild.engine.plan import seal
from rvbuild.process.safe_path import protect
from rvbuild.project.workspaces import find_workspace

_ANEW = "RVBUILD_UTF8"
"""Set in a restarted command, so that it does not restart again."""


def main() -> int:
    """Run the command line `sys.argv` and return the exit status."""
    protect()
    require_unicode()
    try:
        status = _main()
    except KeyboardInterrupt:  # before or after the command handles it
        sys.stderr.write(f"{INTERRUPTED}\n")
        status = 130
    if status == 130:
        # Everything is cleaned up. A normal exit would wait for threads and unresponsive servers.
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
        if not all(map(str.isprintable, lines)):  # names of files
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
    # No plugin of another package may change how a project file is read; looking for some would take 15 ms.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    # Planning creates many long-lived objects: garbage collection would take half of the time.
    gc.disable()
    from rvbuild.cli.app import run

    return run(words)


def require_unicode() -> None:
    """Restart in Python's UTF-8 mode if file names could not be printed, as in an old locale."""
    if sys.getfilesystemencoding().lower() == "utf-8" or _ANEW in os.environ or not sys.executable:
        return
    os.environ[_ANEW] = "1"
    os.execv(sys.executable, [sys.executable, "-X", "utf8=1", *sys.orig_argv[1:]])


def _require_streams() -> None:
    """Open standard streams that the shell has closed, so that no database gets their file descriptors."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    # Characters that the encoding lacks are printed as "?".
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _sealed(words: list[str]) -> list[str] | None:
    normal = normal_words(words)
    if normal is None:
        return None
    first = next(w for w in normal if w.endswith(".toml"))
    cache = os.path.join(find_workspace(first), "cache")  # noqa: PTH118 - without pathlib
    return seal.holds(seal.path_of(cache, normal), normal)
