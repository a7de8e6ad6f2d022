"""The log of a training while it runs."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from rvbuild.learn.logs.epochs import EpochLog
from rvbuild.learn.logs.files import CsvFile, GrowingFile, as_text
from rvbuild.learn.logs.open import open_sinks


def epoch(number: int, **changes: Any) -> Any:
    metrics = {"mean_iou": 0.5, "iou": {"tree": 0.25 * number, "a, <b>": None}}
    return {"epoch": number, "lr": 0.1, "train_loss": 1 / number, "val_loss": None, "metrics": metrics, **changes}


def epochs(*numbers: int) -> list[Any]:
    return [epoch(number) for number in numbers]


def never(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("", True),
        (as_text(epochs(1)), True),  # killed between the checkpoint and the line
        (as_text(epochs(1, 2))[:-9], True),  # killed while the line was written
        (as_text(epochs(1, 2)), True),
        (as_text(epochs(1, 2)) + as_text(epochs(3))[:20], True),
        (as_text(epochs(1, 2, 3)), True),  # the checkpoint of the last epoch was lost
        (as_text([epoch(1, lr=9.0), epoch(2)]), False),  # another training
        ("no log at all", False),
    ],
)
def test_a_file_that_grows_has_each_epoch_once_whatever_a_kill_has_left(
    tmp_path: Path, before: str, kept: bool
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(before)
    inode = path.stat().st_ino
    with EpochLog([GrowingFile(path)], never) as log, path.open() as reader:
        start = reader.read()
        log.begin(epochs(1, 2))
        assert path.read_text() == as_text(epochs(1, 2))
        log.add(epoch(3))
        assert path.read_text() == as_text(epochs(1, 2, 3))
        if kept:  # as `tail -f` sees it
            common = as_text(epochs(1, 2))[: len(start)]
            reader.seek(len(common))
            assert common + reader.read() == as_text(epochs(1, 2, 3))
    assert path.stat().st_ino == inode


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "log.jsonl").symlink_to(tmp_path / "mine.txt")
    (tmp_path / "log.csv.part").symlink_to(tmp_path / "mine.txt")
    (tmp_path / "log.csv").symlink_to(tmp_path / "mine.txt")
    notes: list[str] = []
    with EpochLog([GrowingFile(tmp_path / "log.jsonl"), CsvFile(tmp_path / "log.csv")], notes.append) as log:
        log.begin([])
        log.add(epoch(1))
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert len(notes) == 1 and notes[0].startswith(f"warning: {tmp_path / 'log.jsonl'} cannot be written")


def test_a_sink_that_fails_is_told_once_and_changes_nothing(tmp_path: Path) -> None:
    class Failing:
        name = "the log for nobody"
        calls = 0

        def begin(self, lines: Any) -> None:
            random.random()

        def add(self, line: Any) -> None:
            self.calls += 1
            random.random()
            raise ConnectionError("the server is gone\nand more")

        def close(self, finished: bool) -> None:
            raise AssertionError

    notes: list[str] = []
    state, failing, path = random.getstate(), Failing(), tmp_path / "log.jsonl"
    with EpochLog([failing, GrowingFile(path)], notes.append) as log:
        log.begin([])
        log.add(epoch(1))
        log.add(epoch(2))
    assert random.getstate() == state and failing.calls == 1
    assert notes == [
        "warning: the log for nobody cannot be written (the server is gone); the training goes on without it, and its "
        "result is the same"
    ]
    assert path.read_text() == as_text(epochs(1, 2))


def test_a_table_has_a_column_for_each_figure(tmp_path: Path) -> None:
    for lines, more in (([], [epoch(1)]), (epochs(1), [epoch(2, val_loss=0.5, val_losses={"dice": 0.125})])):
        with EpochLog([CsvFile(tmp_path / "log.csv")], never) as log:
            log.begin(lines)
            for line in more:
                log.add(line)
    first, second = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert (first["epoch"], first["val_loss"], first["iou/tree"]) == ("1", "", "0.25")
    assert (second["val_losses/dice"], second["mean_iou"]) == ("0.125", "0.5")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


SETTINGS = {"lr": 1e-3, "class_weights": {"tree": 2.0, "Straße & Weg": 1.0}, "ensemble": [[0.5, 0.25], 1.0]}


def continued(path: Path, name: str) -> None:
    """Log four epochs in three processes; the second continues from an older checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for done, end in ((0, 2), (1, 3), (3, 4)):
        with EpochLog(open_sinks(path, [name], "p", "abc", SETTINGS), never) as log:
            log.begin(epochs(*range(1, done + 1)))
            for number in range(done + 1, end + 1):
                log.add(epoch(number))
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_tensorboard_shows_each_epoch_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    continued(tmp_path / "p/live/log.jsonl", "tensorboard")
    run = accumulator.EventAccumulator(str(tmp_path / "p/live/tensorboard/abc"))
    run.Reload()
    assert [(event.step, event.value) for event in run.Scalars("iou/tree")] == [
        (1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)
    ]  # fmt: skip


@pytest.mark.slow
def test_mlflow_has_one_run_with_each_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    continued(tmp_path / "p/live/log.jsonl", "mlflow")
    import mlflow

    client = mlflow.MlflowClient((tmp_path / "p/live/mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert run.data.metrics["iou/tree"] == 1.0
    assert run.data.params == {
        "lr": "0.001",
        "class_weights.tree": "2.0",
        "class_weights.Straße _ Weg": "1.0",
        "ensemble": "[[0.5, 0.25], 1.0]",
    }
