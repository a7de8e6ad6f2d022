"""The master property: after any sequence of edits an incremental build equals a clean one, and status foretold it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Space

from rvbuild.build.artifact import View

NAMES = st.sampled_from("abc")
TEXTS = st.sampled_from(["a", "A", "b", "c # remark", "c # other remark", "fail", "long text"])
FORETOLD = {
    "fresh": {"fresh"},
    "restorable": {"restored"},
    "stale": {"built", "failed", "restored"},
    "missing": {"built", "failed", "restored"},
    "failed": {"failed", "built"},
    "waiting": {"fresh", "restored", "built", "failed"},
}


class Edits(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="rvbuild-property-"))
        self.space = Space(self.base / "ws")
        self.built = False

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    @initialize()
    def begin(self) -> None:
        for name in "abc":
            self.space.write(name, name)

    @rule(name=NAMES, text=TEXTS)
    def edit(self, name: str, text: str) -> None:
        self.space.write(name, text)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        self.space.source(name).touch()

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
        self.space.view = View("fakestages:view") if on else None

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
        objects = [p for p in sorted((self.space.root / "cache/store/objects").rglob("*")) if p.is_file()]
        if objects:
            path = data.draw(st.sampled_from(objects))
            if data.draw(st.booleans()):
                path.unlink()
            else:
                path.chmod(0o644)
                path.write_bytes(b"x" * path.stat().st_size)

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
            self.space.run(f"upper:p:{scene}", keep_going=True)

    @rule(jobs=st.sampled_from([1, 3]))
    def build(self, jobs: int) -> None:
        foretold = self.space.states()
        result = self.space.run(jobs=jobs, keep_going=True)
        failed = "failed" in result.values()
        for label, done in result.items():
            allowed = FORETOLD[foretold[label]] | ({"skipped"} if failed else set())
            if any("quarantine" in line for line in self.space.recorder.lines):
                allowed |= {"built", "restored"}
            assert done in allowed, (label, foretold[label], done)
        clean = Space(self.base / "clean")
        clean.settings, clean.version = self.space.settings, self.space.version
        clean.view, clean.scenes = self.space.view, self.space.scenes
        for name in "abc":
            clean.write(name, self.space.source(name).read_text())
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

    @invariant()
    def nothing_temporary_is_left(self) -> None:
        for folder in ("cache/tmp", "cache/store/tmp"):
            path = self.space.root / folder
            assert not path.exists() or not list(path.iterdir())


Edits.TestCase.settings = settings(
    max_examples=40, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEdits = Edits.TestCase
