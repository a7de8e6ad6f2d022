"""The build that the page starts, in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from rvbuild.errors import UsageError
from rvbuild.view.building.builds import Build

from .conftest import Results

pytestmark = pytest.mark.slow


def start(file: Path, stage: str, told: list[tuple[str, Any]], trust: bool = False) -> Build:
    build = Build(file, [], trust, os.environ, lambda kind, content: told.append((kind, content)))
    build.start(stage)
    return build


def wait(build: Build, seconds: float = 60) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while build.state()["running"]:
        assert time.monotonic() < until, build.state()
        time.sleep(0.05)
    return build.state()


def test_a_build_tells_what_it_does_and_a_second_has_nothing_to_do(pixels: Results) -> None:
    told: list[tuple[str, Any]] = []
    build = start(pixels.file, "analyze", told)
    with pytest.raises(UsageError, match="running already"):
        build.start("analyze")
    status = wait(build)
    assert status["ok"] is True and status["message"] == ""
    assert {label: artifact["state"] for label, artifact in status["artifacts"].items()} == dict.fromkeys(
        ("analyze:a", "analyze:b", "analyze"), "built"
    )
    assert (pixels.root / "cache/p/analyze/stats.json").is_file()
    kinds = [content["event"] for kind, content in told if kind == "build-event"]
    assert kinds[0] == "planned" and kinds[-1] == "finished" and "progress" in kinds
    build.start("analyze")
    assert wait(build)["artifacts"] == {}


def test_a_failure_is_told_with_its_message(pixels: Results) -> None:
    (pixels.root / "data/a.tif").write_bytes(b"no image")
    status = wait(start(pixels.file, "analyze", []))
    assert status["ok"] is False
    assert status["artifacts"]["analyze:a"]["state"] == "failed"
    assert "a.tif" in status["artifacts"]["analyze:a"]["message"]
    assert status["artifacts"]["analyze:b"]["state"] == "built", "what does not need it is built"


def test_a_project_file_that_is_wrong_is_told(pixels: Results) -> None:
    pixels.edit("size_px", "sise_px")
    status = wait(start(pixels.file, "analyze", []))
    assert status["ok"] is False and "sise_px: unknown key" in status["message"]


def test_code_that_is_not_trusted_does_not_run(pixels: Results) -> None:
    (pixels.root / "own.py").write_text("open('ran', 'w').close()\ndef half(image, valid):\n    return image // 2\n")
    image = 'image = { files = "data/{id}.tif", transform = [{ kind = "function", function = "own:half" }] }'
    pixels.edit('image = "data/{id}.tif"', image)
    status = wait(start(pixels.file, "analyze", []))
    assert status["ok"] is False and "own.py" in status["message"] and "--trust" in status["message"]
    assert not (pixels.root / "ran").exists() and not (pixels.file.parent / "ran").exists()


def test_a_build_can_be_stopped(pixels: Results) -> None:
    pixels.edit("epochs = 2", "epochs = 5000")
    build = start(pixels.file, "train", [])
    until = time.monotonic() + 60
    while build.state()["artifacts"].get("train", {}).get("state") != "running":
        assert time.monotonic() < until and build.state()["running"], build.state()
        time.sleep(0.05)
    build.stop()
    status = wait(build)
    assert status["ok"] is False and "stopped" in status["message"]


def test_there_is_no_such_stage(pixels: Results) -> None:
    with pytest.raises(UsageError, match=r"no stage 'trian'.*train"):
        start(pixels.file, "trian", [])
