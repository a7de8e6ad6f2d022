"""Schedulers, workers and drivers of a cluster as processes that start in milliseconds, on hosts of their own.

A server process imports once what they need, and forks for each. A host is a network namespace with an address, a name
and a `/tmp` of its own; all are joined by a bridge in the namespace of the server, where the scheduler and the driver
are. All see the same file system otherwise. Without hosts, all processes are on this machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from forks import become

_NEWNS, _NEWUTS, _NEWNET = 0x00020000, 0x04000000, 0x40000000
_NEW_OF_HOST = _NEWNS | _NEWUTS | _NEWNET
_PR_SET_PDEATHSIG = 1
_MS_BIND = 4096
_ROOT = Path(__file__).resolve().parents[2]
HERE = "10.77.0.1"
"""The address of the scheduler and the driver, if there are hosts."""


def reason_against_hosts() -> str | None:
    """Return why there cannot be hosts here; None if there can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    if shutil.which("ip") is None or shutil.which("unshare") is None or shutil.which("mount") is None:
        return "needs ip, unshare and mount"
    test = "ip link add b0 type bridge && ip link add a0 type veth peer name a1 && mount -t tmpfs tmpfs /mnt"
    if subprocess.run(["unshare", "--net", "--mount", "--uts", "sh", "-c", test], capture_output=True).returncode:
        return "network namespaces or mounts are not allowed here"
    return None


class Process:
    """A process that the server has forked."""

    def __init__(self, server: Server, pid: int, what: str, output: Path) -> None:
        self._server = server
        self.pid = pid
        self.what = what
        self.output = output
        self._status: int | None = None

    def status(self) -> int | None:
        """Return its exit status, or minus the signal that ended it; None while it runs."""
        if self._status is None:
            self._status = self._server.ask("poll", self.pid)
        return self._status

    def wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while (status := self.status()) is None:
            if time.monotonic() > deadline:
                self.kill(signal.SIGUSR1)  # tells where its threads are
                time.sleep(0.5)
                pytest.fail(f"{self.what} still runs after {seconds:.0f} s; it printed:\n{self.said()}")
            time.sleep(0.02)
        return status

    def kill(self, signal_: int = signal.SIGKILL) -> None:
        if self.status() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_)

    def end(self) -> None:
        self.kill()
        self.wait(20)

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""


class Server:
    """The server that forks; with `hosts`, in namespaces of its own.

    Parameters
    ----------
    folder : Path
        For the local directories of workers, and for what hosts share.
    hosts : bool
        Whether there will be hosts.
    size : str
        The size of a file system of its own at `folder`, such as `4m`; empty for none.
    environment : dict
        Variables of all processes.
    """

    def __init__(
        self, folder: Path, hosts: bool = False, size: str = "", environment: dict[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._said = folder.with_name(f"{folder.name}-said")  # also if the folder is full
        self._said.mkdir()
        self._count = 0
        words = [sys.executable, str(Path(__file__)), str(folder), size]
        if hosts:
            words = ["unshare", "--net", "--mount", "--uts", "--propagation", "private", *words, "hosts"]
        variables = {"DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s", **(environment or {})}
        self._server = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
        )
        #: The folder as seen from outside of the namespaces, where it may be a file system of its own.
        self.seen = Path(f"/proc/{self._server.pid}/root{folder}") if hosts else folder
        assert self._read() == "ready"

    def _read(self) -> Any:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server died"
        return json.loads(line)

    def ask(self, *request: Any) -> Any:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = self._read()
        assert not (isinstance(answer, dict) and "error" in answer), answer["error"]
        return answer

    def start(self, what: str, *words: str, host: int = 0, environment: dict[str, str] | None = None) -> Process:
        """Start one of the functions below, on a host (the process that holds it) or beside the server."""
        self._count += 1
        output = self._said / f"{self._count}-{what}.txt"
        pid = self.ask("start", what, list(words), str(output), host, environment or {})
        return Process(self, pid, what, output)

    def host(self, name: str, number: int, tmp: str = "8m") -> Host:
        """Make a host with the address 10.77.0.NUMBER and a /tmp of the given size."""
        return Host(self, self.ask("host", name, number, tmp), name, number)

    def close(self) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


class Host:
    """A host; `pid` holds its namespaces."""

    def __init__(self, server: Server, pid: int, name: str, number: int) -> None:
        self._server = server
        self.pid = pid
        self.name = name
        self.address = f"10.77.0.{number}"
        self._link = f"h{number}"

    def unplug(self) -> None:
        """Cut the host off: no packet arrives or leaves, and nobody is told."""
        self._server.ask("do", ["ip", "link", "set", self._link, "nomaster"])

    def plug(self) -> None:
        self._server.ask("do", ["ip", "link", "set", self._link, "master", "br0"])

    def cover(self, path: Path) -> None:
        """Mount another, empty file system over a directory, for this host alone."""
        path.mkdir(exist_ok=True)
        self._server.ask("do", ["nsenter", "-t", str(self.pid), "-m", "mount", "-t", "tmpfs", "tmpfs", str(path)])

    def processes(self) -> list[int]:
        """Return the processes on the host, but for the one that holds it."""
        ours = Path(f"/proc/{self.pid}/ns/net").readlink()
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (folder / "ns/net").readlink() == ours and int(folder.name) != self.pid:
                    pids.append(int(folder.name))
        return pids

    def signal(self, signal_: int) -> None:
        """Send a signal to all processes of the host: SIGSTOP freezes it, SIGKILL is a loss of power."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_)


# -- in the server -----------------------------------------------------------------------------------------------------


def _scheduler(folder: Path, host: str, port: str) -> int:
    import asyncio

    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host=host, port=int(port), dashboard=False, dashboard_address=":0") as scheduler:
            (folder / "scheduler.new").write_text(scheduler.address)
            (folder / "scheduler.new").rename(folder / "scheduler.txt")
            await scheduler.finished()

    asyncio.run(serve())
    return 0


def _worker(folder: Path, address: str, host: str, name: str, torch: str = "", spoiled: str = "") -> int:
    """Run a worker; what is `spoiled` is its code or the start of a session."""
    import asyncio

    from distributed import Worker

    from rvbuild.engine.cluster import node

    def fail() -> int:
        raise RuntimeError("spoiled")

    if spoiled == "code":
        node.version_here = lambda: (platform.python_version(), "other")
    elif spoiled == "session":
        node.card_count = fail

    async def serve() -> None:
        resources = {"torch": float(torch)} if torch else {}
        async with Worker(
            address,
            host=host,
            name=name,
            nthreads=1,
            memory_limit=0,
            resources=resources,
            dashboard=False,
            local_directory=str(folder / "scratch" / name),
        ) as worker:
            await worker.finished()

    asyncio.run(serve())
    return 0


def _run(folder: Path, root: str, address: str, text: str) -> int:
    """Build a workspace; `text` is a JSON object of what differs."""
    from cluster_space import Recorder, ToldSpace

    options = json.loads(text)
    space = ToldSpace(Path(root), address, **options.pop("settings", {}))
    jobs, forced = options.pop("jobs", 4), frozenset(options.pop("forced", ()))
    for name, value in options.items():
        setattr(space, name, value)
    space.recorder = Recorder()
    try:
        result = space.run(jobs=jobs, keep_going=True, forced=forced)
    except KeyboardInterrupt:
        return 130
    finally:
        print("\n".join(space.recorder.lines))
    for label, outcome in space.outcomes.items():
        print(f"{outcome.did.value} {label} on {outcome.host}: {outcome.message}")
    return 0 if set(result.values()) <= {"built", "restored", "fresh"} else 1


_FUNCTIONS = {"scheduler": _scheduler, "worker": _worker, "run": _run}


def _serve(folder: Path, size: str, has_hosts: bool) -> None:
    import cluster_space  # noqa: F401 - imported once, for all forks
    import distributed
    from doit import doit_cmd  # noqa: F401

    import rvbuild.engine.cluster.node  # noqa: F401

    assert distributed
    if size:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    if has_hosts:
        _do("ip link set lo up", "ip link add br0 type bridge", f"ip addr add {HERE}/24 dev br0", "ip link set br0 up")
    children: list[int] = []
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = _answer(folder, children, *json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _answer(folder: Path, children: list[int], kind: str, *words: Any) -> Any:
    if kind == "start":
        what, arguments, output, host, environment = words
        pid = os.fork()
        if pid == 0:
            become(lambda: _work(folder, what, arguments, host), output, environment)
        children.append(pid)
        return pid
    if kind == "poll":
        pid, status = os.waitpid(words[0], os.WNOHANG)
        if pid:
            children.remove(pid)
        return os.waitstatus_to_exitcode(status) if pid else None
    if kind == "do":
        return _do(*[words[0]])
    name, number, tmp = words
    return _new_host(folder, children, name, number, tmp)


def _new_host(folder: Path, children: list[int], name: str, number: int, tmp: str) -> int:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _end_with_parent()
            _libc("unshare", _NEW_OF_HOST)
            _do(["hostname", name])
            # What lies in /tmp is not seen any more, but for what is shared.
            shared = [path for path in (folder, _ROOT) if path.is_relative_to("/tmp")]
            handles = [os.open(path, os.O_PATH) for path in shared]
            _do(f"mount -t tmpfs -o size={tmp},mode=1777 tmpfs /tmp")
            for path, handle in zip(shared, handles, strict=True):
                path.mkdir(parents=True)
                _bind(handle, path)
            os.write(writing, b"1")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    children.append(pid)
    os.close(writing)
    if os.read(reading, 1) != b"1":
        raise RuntimeError(f"no host {name}")
    os.close(reading)
    _do(
        f"ip link add h{number} type veth peer name eth0 netns {pid}",
        f"ip link set h{number} master br0 up",
        f"nsenter -t {pid} -n ip addr add 10.77.0.{number}/24 dev eth0",
        f"nsenter -t {pid} -n ip link set eth0 up",
        f"nsenter -t {pid} -n ip link set lo up",
    )
    return pid


def _work(folder: Path, what: str, words: list[str], host: int) -> int:
    _end_with_parent()
    if host:
        for kind in ("net", "uts", "mnt"):
            _libc("setns", os.open(f"/proc/{host}/ns/{kind}", os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR1)
    os.chdir(folder)
    return int(_FUNCTIONS[what](folder, *words))


def _do(*commands: str | list[str]) -> None:
    for command in commands:
        words = command.split() if isinstance(command, str) else command
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")


def _libc(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _bind(handle: int, path: Path) -> None:
    """Show an open directory at another place, also if something has been mounted over its old one."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_MS_BIND)
    if libc.mount(f"/proc/self/fd/{handle}".encode(), os.fsencode(path), None, flags, None):
        raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}", str(path))


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["hosts"])
