"""The benchmarks import, and their table says which bars hold."""

import importlib
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import encoders, export, stage
from benchmarks.__main__ import NAMES, main
from benchmarks.bar import Cost, Figure, cpu_seconds, interleaved, table


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_can_run(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_table_says_which_bars_hold():
    rows = table(
        [
            Figure("speed", 0.8, 0.7, "", False, "ten windows", Cost("window", 0.0125, 0.01)),
            Figure("memory", 200, 150, "MB", True),
        ],
    ).splitlines()
    assert rows[2] == "| speed | 0.8  | ≥ 0.7  | yes | 12.5 ms (10 ms) a window | ten windows |"
    assert rows[3] == "| memory | 200 MB | ≤ 150 MB | **no** |  |  |"


def test_cpu_seconds_count_processes_and_no_sleep():
    busy = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"]
    assert cpu_seconds(lambda: subprocess.run(busy, check=True)) >= 0.3
    assert cpu_seconds(lambda: time.sleep(0.2)) < 0.1


def test_the_stages_that_benchmarks_call_exist():
    called = []
    for path in Path(stage.__file__).parent.glob("*.py"):
        called += re.findall(r'run_stage\(\s*"([^"]+)"', path.read_text())
    assert len(called) > 8
    for name in called:
        assert callable(importlib.import_module(f"rvbuild.stages.{name}").run)


def test_interleaved_counts_all_turns_but_the_first():
    turns = {"a": iter([9.0, 1.0, 3.0, 2.0]), "b": iter([9.0, 4.0, 4.0, 4.0])}
    assert interleaved(3, lambda: next(turns["a"]), lambda: next(turns["b"])) == [2.0, 4.0]


def test_an_unknown_name_is_an_error(capsys):
    assert main(["nothing"]) == 2
    assert "nothing_to_do" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bands"),
    list(
        zip(
            ("resnet", "convnext", "efficientnet", "vit", "vit3", "maxvit", "mambaout", "nfnet", "byobnet"),
            itertools.cycle((1, 3, 4, 13)),
            strict=False,
        )
    ),
)
def test_encoders_of_every_kind_are_trained_saved_and_resumed(name, bands):
    encoders.try_network(f"test_{name}", bands)


def test_a_training_that_starts_again_is_told(monkeypatch):
    monkeypatch.setattr(encoders, "_built", lambda name, bands: torch.nn.Conv2d(bands, 2, 1))
    real = encoders.rvbuild.fit
    monkeypatch.setattr(encoders.rvbuild, "fit", lambda *args, resume, **options: real(*args, **options))
    with pytest.raises(AssertionError, match="has the loss"):
        encoders.try_network("any", 3)
    monkeypatch.setattr(encoders.rvbuild, "fit", real)
    encoders.try_network("any", 3)


def test_encoders_are_counted_by_family_and_causes_by_network():
    results = {
        "resnet18": {"name": "resnet18", "problem": ""},
        "resnet50": {"name": "resnet50", "problem": "13 bands: it | fails"},
        "convnext_tiny": {"name": "convnext_tiny", "skipped": "memory"},
    }
    rows = encoders.tables(results).splitlines()
    resnet = next(row for row in rows if row.startswith("| resnet |")).split("|")
    assert [cell.strip() for cell in resnet[3:6]] == ["1", "1", ""]
    assert "| resnet50 | 13 bands: it \\| fails |" in rows


def test_a_network_that_ended_the_process_counts_as_failed(tmp_path):
    (tmp_path / "r.jsonl").write_text(
        '{"name": "a", "started": true}\n{"name": "a", "problem": ""}\n{"name": "b", "started": true}\n'
    )
    assert {name: result["problem"] for name, result in encoders.read(tmp_path / "r.jsonl").items()} == {
        "a": "",
        "b": "the process ended",
    }


@pytest.mark.slow
def test_exports_are_compared():
    difference, parameters = export.try_model("semantic_segmentation", "unet", side_px=32)
    assert difference <= 1e-3 and parameters > 100_000


def test_all_models_are_exported_but_those_of_timm():
    listed = list(export.listed())
    assert len(listed) > 100
    assert ("object_detection", "fcos", export.ENCODER) in listed
    assert ("chip_classification", "mnasnet0_5", "") in listed
