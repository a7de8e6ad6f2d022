"""Commands in processes of their own that start in a few milliseconds, to be killed.

A server process imports once what the commands need, and forks for each; it is run as `python forks.py MODULE`, where
the module has a function `do(words)` that returns an exit status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Forks:
    """A server that forks for every command; one at a time."""

    def __init__(self, module: Path) -> None:
        words = [sys.executable, str(Path(__file__)), str(module)]
        self._server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == "ready"

    def _read(self) -> Any:
        line = self._server.stdout.readline()
        assert line, "the server died"
        return json.loads(line)

    def start(self, *words: str, output: Path | None = None, environment: dict[str, str] | None = None) -> int:
        """Start a command and return its process."""
        if output is not None:
            output.write_text("")  # what the one before has said; this one may be killed before it opens the file
        request = [list(words), str(output or os.devnull), environment or {}]
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """Return how the command ended: its status, or minus the signal that killed it."""
        return int(self._read())

    def run(self, *words: str, **more: Any) -> int:
        """Run a command to its end."""
        self.start(*words, **more)
        return self.wait()

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(60)  # it has much to let go, and others may have the processor
        self._server.stdout.close()


def descendants(pid: int) -> list[int]:
    """Return the living processes that `pid` has started, and those that these have started."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    pids, left = [], [pid]
    while left:
        for child in parents.get(left.pop(), ()):
            pids.append(child)
            left.append(child)
    return pids


def holders(root: Path) -> list[int]:
    """Return the processes that have a file below `root` open."""
    pids = []
    for pid in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()).startswith(f"{root}/") for fd in (pid / "fd").iterdir()):
                pids.append(int(pid.name))
    return pids


def disturb(pid: int, after_s: float, luck: random.Random, workers: bool) -> str:
    """Kill the command `pid`, or one of its workers, after a while; return what was done."""
    time.sleep(after_s)
    victim = pid
    if workers and luck.random() < 0.5:
        victim = luck.choice([pid, *descendants(pid)])
    signal_ = signal.SIGKILL if victim != pid else luck.choice(SIGNALS)
    with contextlib.suppress(ProcessLookupError):
        # Ctrl-C is for all processes of the terminal.
        os.killpg(victim, signal_) if signal_ == signal.SIGINT else os.kill(victim, signal_)
    return f"{signal_.name} to {'the command' if victim == pid else 'a worker'} after {after_s:.3f} s"


def wait_until_gone(root: Path, seconds: float = 120) -> None:
    """Wait until no process works below `root` any more."""
    deadline = time.monotonic() + seconds
    while left := holders(root):
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(0.01)


def serve(module: Path) -> None:
    sys.path.insert(0, str(module.parent))
    do = importlib.import_module(module.stem).do
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        words, output, environment = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(lambda words=words: do(words), output, environment)
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def become(work: Callable[[], int], output: str, environment: dict[str, str]) -> None:
    """Let this process, which was just forked, be a command of its own, and exit with the status of `work`."""
    status = 99
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ.update(environment)
        status = work()
    except BaseException as error:
        status = 130 if isinstance(error, KeyboardInterrupt) else 99
        traceback.print_exc(file=sys.__stderr__)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
