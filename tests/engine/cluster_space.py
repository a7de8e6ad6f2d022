"""A workspace whose fake stages run on a cluster, and stages that tell when they run and where."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from conftest import STAGES, Recorder, Space

from rvbuild.engine.cluster.executor import Cluster
from rvbuild.engine.keys.artifact import Artifact, Demand, Resource
from rvbuild.engine.run.execute import Builder
from rvbuild.progress import Sent

MORE = """
import json, socket, tempfile

EVENTS = Path(__file__).with_name("events.txt")

def meet(inputs, settings, outputs, progress):
    "Wait until as many are here at once as the settings say."
    folder = Path(__file__).with_name("meeting")
    folder.mkdir(exist_ok=True)
    (folder / settings["prefix"]).touch()
    progress.note("here")
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < settings["count"] and time.monotonic() < deadline:
        time.sleep(0.05)
    (outputs / "out.txt").write_text(f"{len(list(folder.iterdir()))} met")

def once(inputs, settings, outputs, progress):
    "Kill the worker of the cluster at the first attempts, whose number the settings say."
    attempts = Path(__file__).with_name("attempts.txt")
    with attempts.open("a") as file:
        file.write("x")
    (outputs / f"left-{len(attempts.read_text())}.txt").write_text("left by an attempt")
    if len(attempts.read_text()) <= settings["losses"]:
        os.kill(worker_of(os.getpid()), signal.SIGKILL)
        time.sleep(60)
    for path in outputs.iterdir():
        path.unlink()
    (outputs / "out.txt").write_text("done")

def worker_of(pid):
    "Return the Dask worker among the ancestors of a process: forkserver, host, worker."
    chain = [pid]
    while chain[-1] > 1:
        chain.append(int(Path(f"/proc/{chain[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    host = next(i for i, p in enumerate(chain) if b"cluster.host" in Path(f"/proc/{p}/cmdline").read_bytes())
    return chain[host + 1]

def told(inputs, settings, outputs, progress, resume=None):
    "Write the texts of all inputs, slowly and in two steps, and tell of the beginning and the end."
    label, text = settings["label"], "|".join(p.read_text() for role in sorted(inputs) for p in inputs[role])
    _tell("begun", label, text)
    (outputs / "left.txt").write_text(f"left by {os.getpid()}")
    (outputs / settings["name"]).write_text("half")
    if resume is not None:
        with (resume / "steps.txt").open("a") as file:
            file.write(f"{os.getpid()}\\n")
    scratch = Path(__file__).with_name("scratch.txt")  # names a host that needs much of /tmp
    if scratch.exists() and scratch.read_text() == socket.gethostname():
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * (16 << 20))
            file.flush()
    deadline = time.monotonic() + settings["seconds"]
    while time.monotonic() < deadline:
        time.sleep(0.02)
    (outputs / settings["name"]).write_text(text.upper() + settings.get("more", "") * settings.get("times", 0))
    (outputs / "left.txt").unlink()
    if "CLOCK_OFF" in os.environ:
        os.utime(outputs / settings["name"], (time.time(), time.time()))
    _tell("ended", label, text)

def _tell(kind, label, text):
    line = [time.monotonic(), kind, label, text[:80], os.getpid(), socket.gethostname()]
    file = os.open(EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, ("\\n" + json.dumps(line) + "\\n").encode())
    os.close(file)
"""


#: Runs at the start of every process with PYTHONPATH: the clock of a machine that is not synchronised.
CLOCK = """
import os, time
if "CLOCK_OFF" in os.environ:
    _time, _time_ns, _off_s = time.time, time.time_ns, int(os.environ["CLOCK_OFF"])
    time.time = lambda: _time() + _off_s
    time.time_ns = lambda: _time_ns() + _off_s * 10**9
"""


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


def interrupt_when_called(folder: Path) -> None:
    """Interrupt this process soon after a stage has begun, which tells of it in `folder`."""
    wait_for((folder / "calls.txt").exists)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class Event:
    """The beginning or the end of a stage, or what the driver told of it, at a time that all processes share."""

    at: float
    kind: str
    label: str
    text: str
    pid: int
    host: str


class TellingRecorder(Recorder):
    """A reporter that also writes what was built into the file of events, at once."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._path = root / "events.txt"

    def begins(self, artifact: Any, decision: Any) -> Any:
        return Sent(lambda kind, value: self.note(f"{artifact.label()}: {value}") if kind == "note" else None)

    def ended(self, outcome: Any) -> None:
        super().ended(outcome)
        event = [time.monotonic(), outcome.did.value, outcome.artifact.label(), outcome.message, 0, outcome.host]
        with contextlib.suppress(OSError), self._path.open("a") as file:  # a full disk
            file.write("\n" + json.dumps(event) + "\n")


class ClusterSpace(Space):
    """A workspace whose stages run on a cluster; here, if the address is empty."""

    def __init__(self, root: Path, address: str) -> None:
        super().__init__(root)
        (root / "fakestages.py").write_text(STAGES + MORE)
        (root / "sitecustomize.py").write_text(CLOCK)
        self.address = address
        self.most: int | None = None
        for name in "abc":
            if not self.source(name).exists():
                self.write(name, name)

    def executor(self, notes: list[str], store: Path | None = None) -> Cluster:
        cache = self.root / "cache"
        environment = {"PYTHONPATH": str(self.root)}
        return Cluster(self.address, environment, cache, store or cache / "store", (), self.most, notes.append)

    def opened(self, forced: frozenset[str] = frozenset()) -> Any:
        workspace, plan, builder, recorder = super().opened(forced)
        if not self.address:
            return workspace, plan, builder, recorder
        builder._executor.close()
        executor = self.executor(recorder.lines)
        return workspace, plan, Builder(plan, executor, recorder), recorder


class ToldSpace(ClusterSpace):
    """A workspace whose stages take a while and tell of it: scenes -> upper:* -> join -> last."""

    def __init__(self, root: Path, address: str, **settings: Any) -> None:
        super().__init__(root, address)
        self.settings_of_all = settings
        self.torch = False
        self.resumes = False

    def artifacts(self) -> list[Artifact]:
        artifacts = []
        for artifact in super().artifacts():
            name = "out.txt" if artifact.stage == "upper" else "joined.txt"
            settings = {"seconds": 0.05, "label": artifact.label(), "name": name, **self.settings_of_all}
            if artifact.stage != "upper":
                settings["seconds"] = min(settings["seconds"], 0.2)
            more: dict[str, Any] = {}
            if self.torch and artifact.stage == "upper":
                more |= {"resource": Resource.TORCH, "demand": Demand(cores=None)}
            if self.resumes and artifact.stage == "upper":
                more |= {"resume_ignores": frozenset()}
            artifacts.append(dataclasses.replace(artifact, run="fakestages:told", settings=settings, **more))
        return artifacts

    def opened(self, forced: frozenset[str] = frozenset()) -> Any:
        workspace, plan, builder, _ = super().opened(forced)
        recorder = TellingRecorder(self.root)
        if isinstance(builder._executor, Cluster):
            builder._executor._note = recorder.note
        return workspace, plan, Builder(plan, builder._executor, recorder), recorder

    def events(self) -> list[Event]:
        """Return what was told, in the order of time."""
        path = self.root / "events.txt"
        events = []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):  # an empty line, or one that a full disk has cut off
                events.append(Event(*json.loads(line)))
        return sorted(events, key=lambda event: event.at)

    def expected(self) -> dict[str, bytes]:
        """Return the files that a build must show."""
        uppers = {name: self.source(name).read_text().upper() for name in self.scenes}
        joined = "|".join(uppers[name] for name in sorted(self.scenes))
        shown = {f"upper/{name}/out.txt": text for name, text in uppers.items()}
        return {
            path: text.encode()
            for path, text in sorted({**shown, "joined.txt": joined, "last/joined.txt": joined}.items())
        }
