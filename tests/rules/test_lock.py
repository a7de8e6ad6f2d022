"""The lock of the stages' code: kept, and honest about what changed."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import pytest

from rvbuild import rules
from rvbuild.engine.store.state import State


@pytest.fixture
def lock():
    return importlib.import_module("rvbuild.rules.lock")


@pytest.mark.slow
def test_no_stage_changed_without_its_version(lock):
    golden = importlib.import_module("rvbuild.rules.golden")
    assert lock.changed(golden.TASKS) == [], (
        "run `python -m rvbuild.rules.lock`; it refuses if a version must be raised"
    )


def test_code_that_is_locked_adds_nothing_to_keys(lock, tmp_path):
    state = State(tmp_path / "state.db")
    assert lock.code_tags("semantic_segmentation", state) == {}
    state.close()


def test_edited_code_is_tagged(lock, tmp_path, monkeypatch):
    changed = json.loads(lock.LOCK.read_text())
    entry = changed["stages"]["chip/semantic_segmentation"]
    entry["code"] = "0" * 32
    other = tmp_path / "stage_lock.json"
    other.write_text(json.dumps(changed))
    monkeypatch.setattr(lock, "LOCK", other)
    state = State(tmp_path / "state.db")
    assert set(lock.code_tags("semantic_segmentation", state)) == {"chip"}
    state.close()
    assert lock.changed(("semantic_segmentation",)) == [
        f"chip/semantic_segmentation: its code changed and its version ({entry['version']}) did not"
    ]


def test_comments_and_docstrings_do_not_count(tmp_path):
    from rvbuild.engine.keys.code import tree_digest

    plain, two, three = (tmp_path / f"{n}.py" for n in "abc")
    plain.write_text('"""Doc."""\n\ndef f(x):\n    """More."""\n    return x + 1\n')
    two.write_text('# remark\ndef f( x ):\n    """Other."""\n    return x+1  # same\n')
    three.write_text("def f(x):\n    return x + 2\n")
    assert tree_digest(plain) == tree_digest(two) != tree_digest(three)


def test_every_rule_names_functions_that_exist():
    for rule in {**rules.RULES, **rules.ASIDE}.values():
        for name in ("RUN", "RUN_MERGE"):
            path = getattr(rule, name, None)
            if path is not None:
                module, _, function = path.partition(":")
                assert f"def {function}(" in Path(importlib.util.find_spec(module).origin).read_text()
