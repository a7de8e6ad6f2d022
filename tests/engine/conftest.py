"""A workspace with fake stages: breadth without imagery."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from rvbuild.engine.keys.artifact import Artifact, ContentDigest, Product, Source
from rvbuild.engine.plan.plan import Appeared, Plan
from rvbuild.engine.remote.read_through import ReadThrough
from rvbuild.engine.run import doit as engine
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.run.questions import digest_runner
from rvbuild.engine.run.workers import Inline, Pool
from rvbuild.engine.workspace import Workspace
from rvbuild.progress import Silent

STAGES = textwrap.dedent(
    '''
    """Stages on text files, for tests."""
    import os, signal, time
    from pathlib import Path

    CALLS = Path(__file__).with_name("calls.txt")

    def _called(name):
        with CALLS.open("a") as file:
            file.write(name + "\\n")

    def upper(inputs, settings, outputs, progress):
        _called("upper")
        text = view(inputs["text"], {}).upper()
        if "FAIL" in text:
            from rvbuild.errors import DataError
            raise DataError("the text says fail")
        if "CRASH" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "HUNGRY" in text:
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
            try:
                bytearray(4 << 30)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if "GREEDY" in text:
            Path(settings["group"], "cgroup.procs").write_text(str(os.getpid()))
            bytearray(400 << 20)
        if "HELD" in text:  # until the test says so
            deadline = time.monotonic() + 120
            while not Path(__file__).with_name("go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        if "SLOW" in text:
            progress.note("slow")
            time.sleep(settings.get("seconds", 1))
        (outputs / "out.txt").write_text(settings["prefix"] + text)
        if settings.get("extra"):
            (outputs / "extra.txt").write_text("extra")

    def join(inputs, settings, outputs, progress):
        _called("join")
        roles = sorted(r for r in inputs if r.startswith("part/"))
        text = "|".join(inputs[role][0].read_text() for role in roles)
        (outputs / "joined.txt").write_text(text + settings.get("end", ""))

    def view(paths, args):
        return paths[0].read_text().split("#")[0].strip()
    '''
)


class Recorder:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def begins(self, artifact, decision):
        return Silent()

    def ended(self, outcome) -> None:
        self.lines.append(f"{outcome.did.value} {outcome.artifact.label()}")

    def note(self, line: str) -> None:
        self.lines.append(line)


class Space:
    """A scratch workspace: sources a, b, c → upper:a … → join → last."""

    def __init__(self, root: Path, pool: bool = False) -> None:
        self.root = root
        self.pool = pool
        root.mkdir(parents=True, exist_ok=True)
        (root / "fakestages.py").write_text(STAGES)
        self.settings: dict[str, dict] = {"upper": {"prefix": ""}, "join": {}, "last": {"end": "!"}}
        self.version = 1
        self.view: ContentDigest | None = None
        self.scenes = ["a", "b", "c"]
        self.folder = ""  # of the sources
        self.appeared: Appeared | None = None  # what tells of files that have come to belong to sources
        self.remote: str | None = None  # a store elsewhere, if not the one of the environment

    def source(self, name: str) -> Path:
        return self.root / self.folder / f"{name}.txt"

    def write(self, name: str, text: str) -> None:
        self.source(name).write_text(text)

    def artifacts(self) -> list[Artifact]:
        planned = [
            Artifact(
                f"upper:p:{quote(s)}",
                "p",
                "upper",
                s,
                "fakestages:upper",
                self.version,
                dict(self.settings["upper"]),
                (Source("text", (self.source(s),), digests=(self.view,)),),
                f"cache/p/upper/{s}",
            )
            for s in self.scenes
        ]
        parts = tuple(Product(f"part/{s}", f"upper:p:{quote(s)}", ("out.txt",)) for s in self.scenes)
        planned.append(
            Artifact("join:p", "p", "join", None, "fakestages:join", 1, dict(self.settings["join"]), parts, "cache/p")
        )
        last = (Product("part/x", "join:p"),)
        planned.append(
            Artifact(
                "last:p", "p", "last", None, "fakestages:join", 1, dict(self.settings["last"]), last, "cache/p/last"
            )
        )
        return planned

    def opened(self, forced: frozenset[str] = frozenset()) -> tuple[Workspace, Plan, Builder, Recorder]:
        import sys

        sys.modules.pop("fakestages", None)
        sys.path_importer_cache.clear()
        if str(self.root) in sys.path:
            sys.path.remove(str(self.root))
        sys.path.insert(0, str(self.root))
        recorder = Recorder()
        workspace = Workspace(self.root, recorder.note)
        if self.remote is not None:
            workspace.read_through = ReadThrough(self.remote, self.root, workspace.store, recorder.note)
        executor = Pool({}, self.root / "cache" / "log") if self.pool else Inline({})
        plan = Plan(workspace, self.artifacts(), digest_runner(executor), forced, self.appeared)
        builder = Builder(plan, executor, recorder)
        return workspace, plan, builder, recorder

    def run(
        self, *wanted: str, jobs: int = 1, keep_going: bool = False, forced: frozenset[str] = frozenset()
    ) -> dict[str, str]:
        """Build; return label → what was done."""
        workspace, plan, builder, recorder = self.opened(forced)
        self.recorder = recorder
        try:
            workspace.sweep()
            names = wanted or ("last:p",)
            plan.examine(plan.closure(names))
            engine.run(builder.to_do(names), builder, jobs, keep_going)
            for artifact in plan.closure(names):
                builder.skip(artifact.name, "not reached")
            self.outcomes = {o.artifact.label(): o for o in builder.outcomes.values()}
            return {label: o.did.value for label, o in self.outcomes.items()}
        except BaseException:
            builder.interrupt()
            raise
        finally:
            builder._executor.close()
            workspace.close()

    def states(self) -> dict[str, str]:
        workspace, plan, builder, self.recorder = self.opened()
        try:
            plan.examine(plan.artifacts.values())
            self.keys = {a.label(): plan[a.name].facts.key for a in plan.artifacts.values()}
            self.reasons = {a.label(): [str(r) for r in plan[a.name].decision.reasons] for a in plan.artifacts.values()}
            return {a.label(): plan[a.name].decision.state.value for a in plan.artifacts.values()}
        finally:
            builder._executor.close()
            workspace.close()

    def calls(self) -> list[str]:
        """Return the stages that ran since the last call of this."""
        path = self.root / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def shown(self) -> dict[str, bytes]:
        """Return all files that artifacts show."""
        base = self.root / "cache" / "p"
        return {str(p.relative_to(base)): p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}


def children_in(root: Path) -> list[str]:
    """Return the processes whose log or working files are in `root`."""
    pids = []
    for pid in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(root) in str(file.readlink()) for file in (pid / "fd").iterdir()):
                pids.append(pid.name)
    return pids


def children_left(root: Path, seconds: float, but: Collection[int] = ()) -> list[str]:
    """Return the processes of `children_in`, except some, that are there `seconds` later.

    It returns none as soon as there was none for a while: one that was just being started may appear after that.
    """
    deadline = time.monotonic() + seconds
    empty_since: float | None = None
    while True:
        now = time.monotonic()
        pids = [pid for pid in children_in(root) if int(pid) not in but]
        empty_since = None if pids else empty_since or now
        if now > deadline or (empty_since is not None and now - empty_since > 0.5):
            return pids
        time.sleep(0.05)


@pytest.fixture
def space(tmp_path: Path) -> Space:
    made = Space(tmp_path / "ws")
    for name in "abc":
        made.write(name, name)
    return made


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[str]:
    """Return the address of a server that speaks S3, in this process, with credentials that mean nothing."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(bucket_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty bucket, with an environment in which s3fs finds it."""
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket_server)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.mkdir("bucket")
    yield "s3://bucket"
    fs.invalidate_cache()
    fs.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def new_space(tmp_path: Path) -> Iterator[Callable[..., Space]]:
    count = 0

    def make(pool: bool = False) -> Space:
        nonlocal count
        count += 1
        return Space(tmp_path / f"ws{count}", pool)

    yield make
