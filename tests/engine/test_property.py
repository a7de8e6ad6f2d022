"""The master property: after any sequence of edits an incremental build equals a clean one, and status foretold it.

`RVBUILD_PROPERTY=1000 pytest tests/engine/test_property*.py` tries that many, longer sequences.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Space

from rvbuild.engine.keys.artifact import ContentDigest
from rvbuild.engine.run import made
from rvbuild.engine.run.workers import Inline
from rvbuild.engine.store.state import State
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError
from rvbuild.session.forget import forget

NAMES = st.sampled_from("abc")
TEXTS = st.sampled_from(["a", "A", "b", "c # remark", "c # other remark", "fail", "long text"])
#: State → what a run may do: with a known key exactly that, and anything that status leaves open without one.
FORETOLD = {
    "fresh": {"fresh"},
    "restorable": {"restored"},
    "stale": {"built", "failed"},
    "missing": {"built", "failed"},
    "failed": {"built", "failed"},  # built if the input had only been touched while it was read
}
OPEN = {"fresh", "restored", "built", "failed"}
#: How many sequences are tried, if it was asked for, and how long they are.
WISHED = int(os.environ.get("RVBUILD_PROPERTY", "0"))
#: The steps at which a run is stopped: after each, other things are on disk.
STEPS = ["Store.take", "Store.record", "Store.place", "State.succeed", "State.fail"]


class Killed(BaseException):
    """A run that ends here and now."""


@contextmanager
def mended() -> Iterator[None]:
    """Let a command end that has found the state database damaged while it changed it: the next one succeeds."""
    try:
        yield
    except StoreError as error:
        assert "was damaged and is being recreated; run again" in str(error)


class Edits(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="rvbuild-property-"))
        self.space = Space(self.base / "ws")
        self.built = False

    def teardown(self) -> None:
        os.environ.pop("RVBUILD_STORE", None)
        shutil.rmtree(self.base)

    @property
    def store(self) -> Path:
        return Path(os.environ.get("RVBUILD_STORE") or self.space.root / "cache/store")

    @initialize()
    def begin(self) -> None:
        for name in "abc":
            self.space.write(name, name)

    @rule(name=NAMES, text=TEXTS)
    def edit(self, name: str, text: str) -> None:
        self.space.write(name, text)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if self.space.source(name).exists():
            self.space.source(name).touch()

    @rule(name=NAMES, letter=st.sampled_from("xy"))
    def edit_and_put_the_time_back(self, name: str, letter: str) -> None:
        """Edit a file so that its size and its time stay."""
        path = self.space.source(name)
        if path.exists():
            before = path.stat()
            path.write_text(letter * before.st_size)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(name=NAMES)
    def lose_an_input(self, name: str) -> None:
        self.space.source(name).unlink(missing_ok=True)

    @rule(prefix=st.sampled_from(["", "x"]))
    def set_prefix(self, prefix: str) -> None:
        self.space.settings["upper"]["prefix"] = prefix

    @rule(extra=st.booleans())
    def set_extra(self, extra: bool) -> None:
        self.space.settings["upper"]["extra"] = extra

    @rule(end=st.sampled_from(["!", "?"]))
    def set_end(self, end: str) -> None:
        self.space.settings["last"]["end"] = end

    @rule(version=st.sampled_from([1, 2]))
    def set_version(self, version: int) -> None:
        self.space.version = version

    @rule(on=st.booleans())
    def use_view(self, on: bool) -> None:
        self.space.view = ContentDigest("fakestages:view") if on else None

    @rule(scenes=st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"], ["b", "c"]]))
    def set_scenes(self, scenes: list[str]) -> None:
        self.space.scenes = scenes

    @rule(data=st.data())
    def damage_an_output(self, data: st.DataObject) -> None:
        shown = [p for p in sorted((self.space.root / "cache" / "p").rglob("*")) if p.is_file()]
        if shown:
            path = data.draw(st.sampled_from(shown))
            data.draw(st.sampled_from([path.unlink, lambda: path.write_bytes(b"damage")]))()

    @rule(data=st.data())
    def damage_an_object(self, data: st.DataObject) -> None:
        objects = [p for p in sorted((self.store / "objects").rglob("*")) if p.is_file()]
        if objects:
            path = data.draw(st.sampled_from(objects))
            if data.draw(st.booleans()):
                path.unlink()
            else:
                path.chmod(0o644)
                path.write_bytes(b"x" * path.stat().st_size)

    @rule(data=st.data())
    def damage_a_record(self, data: st.DataObject) -> None:
        records = sorted((self.store / "actions").rglob("*.json"))
        if records:
            path = data.draw(st.sampled_from(records))
            data.draw(
                st.sampled_from([path.unlink, lambda: path.write_bytes(b"{"), lambda: path.write_bytes(b"[1]")])
            )()

    @rule(at=st.floats(0, 1), length=st.sampled_from([1, 5000]))
    def damage_the_state(self, at: float, length: int) -> None:
        path = self.space.root / "cache/state.db"
        if path.exists():
            with path.open("r+b") as file:
                file.seek(int(at * path.stat().st_size))
                file.write(b"\xa5" * length)

    @rule()
    def lose_the_state(self) -> None:
        for path in (self.space.root / "cache").glob("state.db*"):
            path.unlink()

    @rule()
    def move_the_workspace(self) -> None:
        target = self.base / f"moved{len(list(self.base.iterdir()))}{self.space.root.name}"
        self.space.root.rename(target)
        self.space.root = target

    @rule(scene=NAMES)
    def build_a_part(self, scene: str) -> None:
        if scene in self.space.scenes:
            with mended():
                self.space.run(f"upper:p:{scene}", keep_going=True)

    @rule(artifact=st.sampled_from(["upper:p:a", "join:p", "last:p"]), keep_cache=st.booleans())
    def clean(self, artifact: str, keep_cache: bool) -> None:
        workspace, plan, builder, _ = self.space.opened()
        now: Any = SimpleNamespace(workspace=workspace, plan=plan)
        with mended():
            forget(now, artifact, keep_cache)
        assert workspace.state.record(artifact) is None or workspace.state.record(artifact).cleaned
        builder._executor.close()
        workspace.close()

    @rule(artifact=st.sampled_from(["upper:p:a", "join:p", "last:p"]))
    def always_make(self, artifact: str) -> None:
        if artifact not in {a.name for a in self.space.artifacts()}:
            return
        with mended():
            result = self.space.run(artifact, forced=frozenset([artifact]), keep_going=True)
            assert result[artifact.removesuffix(":p").replace(":p:", ":")] in ("built", "failed", "skipped")

    @rule(edited=NAMES, text=TEXTS, count=st.integers(0, 4))
    def an_edit_during_a_run(self, edited: str, text: str, count: int) -> None:
        """Edit an input after the `count`th stage has run, before its inputs are looked at again."""
        real = made._changed
        left = iter(range(2 * count + 1))  # before and after each stage, and before this one

        def edit_and_look(making: made.Making) -> tuple[str, ...]:
            if next(left, None) is None:
                self.space.write(edited, text)
            return real(making)

        with mock.patch.object(made, "_changed", edit_and_look), mended():
            self.space.run(keep_going=True)

    @rule(edited=NAMES, text=TEXTS, first=st.integers(0, 9), last=st.integers(0, 9))
    def an_edit_that_is_put_back_during_a_run(self, edited: str, text: str, first: int, last: int) -> None:
        """Edit an input before or after one stage, and put it back before or after another."""
        path = self.space.source(edited)
        before = path.read_text() if path.exists() else None
        moments = iter(range(1000))

        def moment() -> None:
            now = next(moments)
            if now == first:
                self.space.write(edited, text)
            if now == max(first, last):
                self.space.write(edited, before or "") if before is not None else path.unlink(missing_ok=True)

        real, run = made._changed, Inline.run

        def edit_and_run(inline: Inline, job: Any, progress: Any) -> Any:
            moment()
            return run(inline, job, progress)

        def edit_and_look(making: made.Making) -> tuple[str, ...]:
            moment()
            return real(making)

        patches = mock.patch.object(Inline, "run", edit_and_run), mock.patch.object(made, "_changed", edit_and_look)
        with patches[0], patches[1], mended():
            self.space.run(keep_going=True)

    @rule(step=st.sampled_from(STEPS), count=st.integers(0, 4), after=st.booleans())
    def a_killed_run(self, step: str, count: int, after: bool) -> None:
        """Build, and end before or after the `count`th call of a step."""
        kind, _, method = step.partition(".")
        real = getattr({"Store": Store, "State": State}[kind], method)
        left = iter(range(count))

        def step_or_end(*args: Any, **kwargs: Any) -> Any:
            last = next(left, None) is None
            if last and not after:
                raise Killed
            result = real(*args, **kwargs)
            if last:
                raise Killed
            return result

        with mock.patch.object({"Store": Store, "State": State}[kind], method, step_or_end), suppress(Killed), mended():
            self.space.run(keep_going=True)

    @rule(jobs=st.sampled_from([1, 3]))
    def build(self, jobs: int) -> None:
        with mended():
            self.space.states()
        for _ in range(2):
            foretold, keys = self.space.states(), self.space.keys
            result = {}
            with mended():
                result = self.space.run(jobs=jobs, keep_going=True)
            if result and not any(
                "was damaged and is being recreated" in o.message for o in self.space.outcomes.values()
            ):
                break
        self.check_foretold(foretold, keys, result)
        clean = Space(self.base / "clean")
        clean.settings, clean.version = self.space.settings, self.space.version
        clean.view, clean.scenes = self.space.view, self.space.scenes
        for name in "abc":
            if self.space.source(name).exists():
                clean.write(name, self.space.source(name).read_text())
        with mock.patch.dict(os.environ):
            os.environ.pop("RVBUILD_STORE", None)
            expected = clean.run(keep_going=True)
        assert {k for k, v in expected.items() if v == "failed"} == {k for k, v in result.items() if v == "failed"}
        for label, done in result.items():
            if done in ("failed", "skipped"):
                continue
            for path in self.space.outcomes[label].outputs:
                assert (self.space.root / path).read_bytes() == (clean.root / path).read_bytes(), path
        shutil.rmtree(clean.root)
        again = self.space.run(jobs=jobs, keep_going=True)
        for label, done in result.items():
            assert again[label] == ("fresh" if done not in ("failed", "skipped") else done), (label, done)

    def check_foretold(self, foretold: dict[str, str], keys: dict[str, str | None], result: dict[str, str]) -> None:
        """Check that each artifact was treated as its state said; a rotten object and a failure excuse what follows."""
        rotten = any("quarantine" in line for line in self.space.recorder.lines)
        failed = "failed" in result.values()
        built = [self.space.outcomes[label].key for label, done in result.items() if done == "built"]
        for label, done in result.items():
            key = keys[label]
            allowed = OPEN if key is None or rotten else set(FORETOLD[foretold[label]])
            if failed and (key is None or rotten):
                allowed = allowed | {"skipped"}
            if done == "restored" and key in built:
                continue  # another artifact with the same key came first
            assert done in allowed, (label, foretold[label], done)

    @invariant()
    def nothing_temporary_is_left(self) -> None:
        for path in (self.space.root / "cache/tmp", self.store / "tmp"):
            assert not path.exists() or not list(path.iterdir())


Edits.TestCase.settings = settings(
    max_examples=WISHED or 25,
    stateful_step_count=30 if WISHED else 14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEdits = pytest.mark.slow(Edits.TestCase)
