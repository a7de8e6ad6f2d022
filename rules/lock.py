"""The lock of the stages' code: which code a version of a stage stands for.

A key holds the version of a stage, not its code, so a release that changes no result rebuilds nothing. To make this
safe, `stage_lock.json` holds for every stage its version and the digest of the syntax trees that it may execute inside
rvbuild (comments, docstrings and formatting do not count). A checkout whose code differs from the lock adds the digest
of its code to its keys, so work on a stage never reuses stale results. Before a release, `python -m rvbuild.rules.lock`
updates the lock: a stage whose code changed needs a higher version, unless its outputs for the golden projects are
unchanged.
"""

from __future__ import annotations

import argparse
import functools
import importlib.resources
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.engine.keys import installed
from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.store.state import State
from rvbuild.project.tasks import SPECS
from rvbuild.rules import ASIDE, RULES
from rvbuild.rules.protocol import HasCode, Rule

LOCK = importlib.resources.files("rvbuild.rules").joinpath("stage_lock.json")


def _rules() -> Mapping[str, Rule]:
    return {**RULES, **ASIDE}


def code_digest(stage: str, task: str) -> str:
    """Return the digest of all rvbuild code that the stage may execute for the task."""
    return closure_digest(_rules()[stage].CODE, task)


def closure_digest(roots: Sequence[str], task: str) -> str:
    """Return the digest of all rvbuild code that the modules `roots`, some with a `{task}`, may execute.

    A root with a slash is a file that a stage reads, such as the template of a page. The package's `__init__` is
    excluded, because it holds the version of the release.
    """
    names: set[str] = set()
    for root in roots:
        part = root.format(task=SPECS[task].module)
        if "/" in part:
            names.add(part)
        for module in installed.modules(part[:-2]) if part.endswith(".*") else [part]:
            names |= set(installed.closure(module))
    return digest([[name, installed.digest_of(name)] for name in sorted(installed.without_release(names))])


def read() -> dict[str, Any]:
    """Return the lock: `{"stages": {"chip/semantic_segmentation": {"version", "code"}}, "golden": {...}}`."""
    try:
        lock: dict[str, Any] = json.loads(LOCK.read_text())
    except (OSError, ValueError):
        return {"stages": {}, "golden": {}}
    return lock


def code_tags(task: str, state: State) -> dict[str, str]:
    """Return stage -> digest of its code for the stages whose code or version differs from the lock."""

    def differing() -> str:
        stages = read()["stages"]
        tags = {}
        for stage, rule in _rules().items():
            now = code_digest(stage, task)
            if stages.get(f"{stage}/{task}") != {"version": rule.VERSION, "code": now}:
                tags[stage] = now
        return json.dumps(tags)

    tags_by_stage: dict[str, str] = json.loads(_kept(state, f"code tags {task}", differing))
    return tags_by_stage


def edited(stages: Sequence[str], task: str, state: State) -> str:
    """Return a digest of the code of `stages` if it differs from the lock; empty if not, as in an installed release."""
    if not installed.is_checkout():
        return ""

    def differing() -> str:
        locked = read()["stages"]
        now = {stage: {"version": _rules()[stage].VERSION, "code": code_digest(stage, task)} for stage in stages}
        same = all(locked.get(f"{stage}/{task}") == code for stage, code in now.items())
        return "" if same else digest(now)

    return _kept(state, f"edited {' '.join(stages)} {task}", differing)


def code_of(rule: HasCode, task: str, state: State) -> str:
    """Return the digest of the code of a rule that is not locked, because its results are not kept across releases."""
    return _kept(state, f"code of {rule.__name__} {task}", lambda: closure_digest(rule.CODE, task))


def _kept(state: State, name: str, find: Callable[[], str]) -> str:
    """Return a result about the code of rvbuild, stored in `state` until one of its files changes."""
    seen = _state_of_files()
    known = state.content_digest(seen, name)
    if known is None:
        known = find()
        state.remember_content_digest(seen, name, known)
    return known


def _state_of_files() -> str:
    """Return a digest of the signatures of rvbuild's files. Each plan looks at all of them: it takes 2 ms."""
    paths = _paths()
    states = []
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - hundreds of files
        except OSError:
            states.append("")
        else:
            states.append(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}")
    return digest("\n".join((*paths, *states)))


@functools.cache
def _paths() -> tuple[str, ...]:
    return tuple(sorted(map(str, installed.on_disk())))


def changed(tasks: tuple[str, ...]) -> list[str]:
    """Return a line for every stage whose code changed but not its version, or that is not in the lock."""
    stages = read()["stages"]
    lines = []
    for stage, rule in _rules().items():
        for task in tasks:
            name = f"{stage}/{task}"
            locked = stages.get(name)
            if locked is None:
                lines.append(f"{name}: not in {LOCK.name}")
            elif locked["version"] != rule.VERSION:
                lines.append(f"{name}: version {locked['version']} → {rule.VERSION}")
            elif locked["code"] != code_digest(stage, task):
                lines.append(f"{name}: its code changed and its version ({rule.VERSION}) did not")
    return lines


def main() -> int:
    """Update the lock, if every stage whose code changed has a higher version or unchanged outputs."""
    parser = argparse.ArgumentParser(prog="python -m rvbuild.rules.lock", description=main.__doc__)
    parser.parse_args()
    from rvbuild.rules.golden import TASKS, machine, outputs

    lock = read()
    golden: dict[str, Any] = {"machine": machine(), "outputs": outputs()}
    comparable = lock["golden"].get("machine") == golden["machine"]
    refused = []
    stages: dict[str, dict[str, Any]] = {}
    for stage, rule in _rules().items():
        for task in TASKS:
            name = f"{stage}/{task}"
            now = {"version": rule.VERSION, "code": code_digest(stage, task)}
            was = lock["stages"].get(name)
            if was is not None and was["version"] == now["version"] and was["code"] != now["code"]:
                if not comparable:
                    refused.append(f"{name}: its golden outputs were made on another kind of machine; raise VERSION")
                elif lock["golden"]["outputs"].get(name) != golden["outputs"].get(name):
                    refused.append(f"{name}: its outputs changed; raise VERSION in rules and list it in CHANGELOG.md")
            stages[name] = now
    if refused:
        print("\n".join(refused), file=sys.stderr)
        return 1
    Path(str(LOCK)).write_text(json.dumps({"golden": golden, "stages": stages}, indent=1, sort_keys=True) + "\n")
    print(f"{LOCK}: renewed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
