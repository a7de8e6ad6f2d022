"""Trainings that have begun, as `status` names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.engine.cluster import running
from rvbuild.engine.cluster.beacon import lit
from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.session.remarks.under_way import on_hosts, sentences, under_way

LIVE, SHOWN = "cache/p/live/log.jsonl", "cache/p/train/log.jsonl"
TWO = '{"epoch": 1}\n{"epoch": 2}\n'


def row(state: State, *outputs: str) -> ArtifactStatus:
    return ArtifactStatus("p", "train", None, state, (), outputs, None, None, LIVE)


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_training_has_begun_while_its_log_is_not_that_of_the_result(tmp_path: Path) -> None:
    assert sentences(tmp_path, [row(State.MISSING)]) == []
    write(tmp_path, LIVE, TWO + '{"epo')
    (text,) = sentences(tmp_path, [row(State.MISSING)])
    assert text.startswith("p: train has begun and is not finished: 2 epochs so far, the last at 2")
    assert text.endswith(f"({LIVE})")
    write(tmp_path, SHOWN, TWO)
    assert under_way(tmp_path, row(State.STALE, SHOWN)) is not None
    assert under_way(tmp_path, row(State.FRESH, SHOWN)) is None
    write(tmp_path, LIVE, TWO)  # as the finished training has left it
    assert under_way(tmp_path, row(State.STALE, SHOWN)) is None


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    write(tmp_path, "secret", TWO)
    write(tmp_path, LIVE, "")
    (tmp_path / LIVE).unlink()
    (tmp_path / LIVE).symlink_to(tmp_path / "secret")
    assert under_way(tmp_path, row(State.MISSING)) is None


@pytest.mark.parametrize(("host", "text"), [("n1", "n1 builds p train"), ("n1, n2", "n1, n2 build p train")])
def test_hosts_are_told(tmp_path: Path, host: str, text: str) -> None:
    logs = tmp_path / "cache/log" / running.FOLDER
    with lit("rvbuild-1", {"workspace": logs}):
        board = running.Board(logs, "rvbuild-1")
        board.begun("train:p", host)
        board._write()
        assert on_hosts(tmp_path, [row(State.MISSING)]) == [text]
        board.close()
