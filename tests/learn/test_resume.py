import os
from dataclasses import asdict, replace

import pytest
import torch

from rvbuild.learn.resume import CHECKPOINT, Snapshot, load, save
from tests.learn.chipmaker import state_of


@pytest.fixture
def snapshot():
    return Snapshot(
        identity="x",
        epoch=2,
        weights=state_of(0),
        optimizer={0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(3, 2)}, 1: {"momentum_buffer": None}},
        scaler={"scale": 65536.0},
        best=state_of(1),
        lines=[{"epoch": 1, "train_loss": 0.1}, {"epoch": 2, "train_loss": 1 / 3}],
    )


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    return first == second


def test_what_is_saved_is_loaded(tmp_path, snapshot):
    save(tmp_path / "resume", snapshot)
    notes = []
    assert same(asdict(load(tmp_path / "resume", "x", notes.append)), asdict(snapshot))
    assert notes == []
    save(tmp_path / "resume", replace(snapshot, epoch=3, best=None))
    loaded = load(tmp_path / "resume", "x", notes.append)
    assert loaded.epoch == 3 and loaded.best is None
    assert [path.name for path in (tmp_path / "resume").iterdir()] == [CHECKPOINT]


def test_nothing_saved(tmp_path):
    assert load(tmp_path, "x", pytest.fail) is None
    assert load(tmp_path / "none", "x", pytest.fail) is None


def test_another_training(tmp_path, snapshot):
    save(tmp_path, snapshot)
    notes = []
    assert load(tmp_path, "y", notes.append) is None
    assert "belongs to another training and is not used" in notes[0]


def test_damage_is_noticed_wherever_it_is(tmp_path, snapshot):
    save(tmp_path, snapshot)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    damaged = [whole[:length] for length in (0, 5, len(whole) // 2, len(whole) - 1)]
    damaged += [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(0, len(whole), 41)]
    for content in damaged:
        path.write_bytes(content)
        notes = []
        assert load(tmp_path, "x", notes.append) is None
        assert len(notes) == 1 and "is not used" in notes[0]


def test_a_failed_write_leaves_the_last_one(tmp_path, snapshot, monkeypatch):
    save(tmp_path, snapshot)

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, replace(snapshot, epoch=3))
    assert load(tmp_path, "x", pytest.fail).epoch == 2


def test_what_a_kill_left_behind_goes(tmp_path, snapshot):
    (tmp_path / ".tmpAbCdEf").write_bytes(b"half a checkpoint")
    save(tmp_path, snapshot)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_tied_weights(tmp_path, snapshot):
    weight = torch.ones(2, 2)
    save(tmp_path, replace(snapshot, weights={"a": weight, "b": weight, "c": weight.t()}))
    assert set(load(tmp_path, "x", pytest.fail).weights) == {"a", "b", "c"}
