"""The benchmarks import, and their table says which bars hold."""

import importlib

import pytest

from benchmarks.__main__ import NAMES, main
from benchmarks.bar import Figure, interleaved, table


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_can_run(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_table_says_which_bars_hold():
    rows = table(
        [
            Figure("speed", 0.8, 0.7, "", False, "ten windows"),
            Figure("memory", 200, 150, "MB", True),
        ],
    ).splitlines()
    assert rows[2] == "| speed | 0.8  | ≥ 0.7  | yes | ten windows |"
    assert rows[3] == "| memory | 200 MB | ≤ 150 MB | **no** |  |"


def test_interleaved_counts_all_turns_but_the_first():
    turns = {"a": iter([9.0, 1.0, 3.0, 2.0]), "b": iter([9.0, 4.0, 4.0, 4.0])}
    assert interleaved(3, lambda: next(turns["a"]), lambda: next(turns["b"])) == [2.0, 4.0]


def test_an_unknown_name_is_an_error(capsys):
    assert main(["nothing"]) == 2
    assert "nothing_to_do" in capsys.readouterr().err
