"""Evaluations as data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import rvbuild


@pytest.mark.parametrize("task", ["segmentation", "cells", "boxes"])
def test_an_evaluation_is_the_file(built: Callable[[str], Path], task: str) -> None:
    project = rvbuild.open(built(task))
    evaluation = project.evaluation()
    there = json.loads((project.workspace / "cache/p/eval/eval.json").read_text())
    assert evaluation.data == there and list(evaluation.per_scene) == ["c"]
    rows = evaluation.rows()
    assert {row["scene"] for row in rows} == {None, "c"}
    building = next(row for row in rows if row["scene"] is None and row["class_name"] == "building")
    entry = next(entry for entry in there["overall"] if entry["class_name"] == "building")
    assert {name: building[name] for name in entry["metrics"]} == entry["metrics"]


def test_a_table_is_the_rows(built: Callable[[str], Path]) -> None:
    import pandas

    evaluation = rvbuild.open(built("segmentation")).evaluation()
    table, rows = evaluation.to_dataframe(), evaluation.rows()
    assert isinstance(table, pandas.DataFrame) and len(table) == len(rows)
    assert set(table.columns) == {key for row in rows for key in row}
    assert {"iou", "f1", "precision", "recall"} <= set(table.columns) and table["iou"].dtype == "float64"
    # What a row does not have, and a figure that is none, is missing.
    for position, row in enumerate(rows):
        for key in table.columns:
            value, there = row.get(key), table[key].iloc[position]
            assert there == value if value is not None else pandas.isna(there), (position, key)
    building = table[table["scene"].isna() & (table["class_name"] == "building")]
    assert building["iou"].tolist() == [evaluation.overall[0]["metrics"]["iou"]]


def test_a_table_needs_pandas(built: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = rvbuild.open(built("segmentation")).evaluation()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(rvbuild.UsageError, match="pip install pandas"):
        evaluation.to_dataframe()
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("table", rows)))
    assert evaluation.to_dataframe() == ("table", evaluation.rows())
