"""Kills and other faults, with the real command and the real stages."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from forks import descendants

from .conftest import Space, write_labels


def start(space: Space, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rvbuild", *words],
        cwd=space.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(condition, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)


def checkpoints(space: Space) -> list[Path]:
    return list((space.root / "cache/store/resume").rglob("checkpoint.safetensors"))


def model(space: Space) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((space.root / "cache/p/train").iterdir())}


def test_a_killed_training_resumes_and_ends_with_the_same_bytes(space, tmp_path):
    space.edit("epochs = 2", "epochs = 12")
    other = Space(tmp_path / "uninterrupted")
    shutil.copytree(space.root, other.root)
    process = start(space, "train")
    wait_for(lambda: checkpoints(space), process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(120) == -signal.SIGKILL
    assert not (space.root / "cache/p/train").exists()
    status_now = space.rvbuild("status", "--json")
    assert status_now.did("missing") >= {"train"}
    assert status_now.did("fresh") >= {"chip:a", "chip:b", "chip:c"}
    again = space.rvbuild("train", inline=False)
    assert again.status == 0, again.out + again.err
    assert "continuing after epoch" in again.out
    assert other.rvbuild("train").status == 0
    assert model(space) == model(other)


def test_ctrl_c_while_workers_are_being_started_is_one_message(space):
    """A terminal sends it to all processes of the command, also to the one that imports what workers need."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rvbuild", "analyze"],
        cwd=space.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: any("forkserver" in line for line in command_lines(process.pid)), process)
    time.sleep(0.1)  # in the midst of it
    os.killpg(process.pid, signal.SIGINT)
    out = process.communicate(timeout=240)[0]
    assert process.returncode == 130
    assert "Traceback" not in out
    assert out.strip().splitlines()[-1] == "interrupted: finished artifacts are kept, all others are unchanged"


def command_lines(pid: int) -> list[str]:
    lines = []
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            lines.append(Path(f"/proc/{child}/cmdline").read_text())
    return lines


def test_a_full_disk_in_the_store_is_one_message(space):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small file system")
    cache = space.root / "cache"
    cache.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(cache)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount here")
    try:
        result = space.rvbuild("chip", "-k")
        assert result.status == 1
        assert "Traceback" not in result.out + result.err
        assert "No space left on device" in result.out + result.err or "disk full" in (result.out + result.err).lower()
    finally:
        subprocess.run(["umount", str(cache)], check=True)
    assert space.rvbuild("chip").status == 0


def test_an_image_without_the_declared_band_fails_with_a_message(space):
    space.edit("[scene]\n", "[scene]\nchannels = [0, 1, 7]\n")
    result = space.rvbuild("analyze")
    assert result.status == 2 and "data/a.tif: channels: there is no band 7" in result.err
    result = space.rvbuild("analyze", "--keep-going", inline=False)  # the stage itself says so, too
    assert result.status == 1
    assert "Traceback" not in result.out + result.err
    assert "7" in result.out
    assert "a.tif" in result.out


def test_a_label_edited_during_its_chip_stage_is_never_recorded(space):
    """The edit lands while the worker holds the file: the stage fails, the next run is right."""
    boxes = [(float(i % 60), float(i // 60), i % 60 + 0.5, i // 60 + 0.5) for i in range(3000)]
    write_labels(space.root / "data/a.geojson", boxes)
    process = start(space, "chip", "--scene", "a")
    wait_for(lambda: any((space.root / "cache/store/tmp").glob("*")), process)
    write_labels(space.root / "data/a.geojson", [(1, 1, 50, 50)])
    process.wait(240)
    result = space.rvbuild("chip", "--json", inline=False)
    assert result.status == 0
    clean = Space(space.root.parent / "clean")
    shutil.copytree(space.root, clean.root, ignore=shutil.ignore_patterns("cache"))
    assert clean.rvbuild("chip").status == 0
    assert space.shown() == clean.shown()


def test_keep_going_finishes_what_it_can_and_sums_up_the_failures(space):
    image = space.root / "data/a.tif"
    image.write_bytes(image.read_bytes()[:2000])
    (space.root / "data/c.geojson").write_text('{"type": "FeatureCollection", "features": [')
    result = space.rvbuild("build", "-k")
    assert result.status == 1
    assert "Traceback" not in result.out + result.err
    summary = result.out[result.out.index("failed:") :]
    for label, file in {"analyze:a": "a.tif", "chip:a": "a.tif", "chip:c": "c.geojson"}.items():
        assert any(f"  {label}: " in line and file in line for line in summary.splitlines()), result.out
    assert space.rvbuild("status", "--json").did("fresh") == {"analyze:b", "chip:b"}
    again = space.rvbuild("build", "-k", "--json")
    assert again.did("failed") == {"analyze:a", "chip:a", "chip:c"}
    assert again.did("skipped") >= {"train", "eval", "bundle"}


def test_names_that_mean_something_to_shells_and_patterns(template, tmp_path):
    """Scenes, files, the project and its directory have spaces, quotes, other letters, and one a newline."""
    space = Space(tmp_path / 'it\'s a "größe"\n*[x]')
    shutil.copytree(template, space.root)
    names = {"a": "a b", "b": "it's b #1", "c": "größe-北 %7B$HOME"}
    for old, new in names.items():
        for suffix in (".tif", ".geojson"):
            (space.root / "data" / f"{old}{suffix}").rename(space.root / "data" / f"{new}{suffix}")
        space.edit(f'"{old}"', json.dumps(new, ensure_ascii=False))
    space.project = space.project.rename(space.project.with_name("pro jekt 'ü'.toml"))
    result = space.rvbuild("build", "--json")
    assert result.status == 0, result.out + result.err
    assert result.did("failed") == set()
    assert (space.root / "cache/pro jekt 'ü'/predict" / names["c"] / "labels.tif").is_file()
    remote = tmp_path / 'else where\'s "ö"#?%20'
    sent = len(result.json["artifacts"])
    assert f"sent {sent} results" in space.rvbuild("cache", "push", str(remote)).out
    shutil.rmtree(space.root / "cache")
    assert space.rvbuild("cache", "pull", str(remote)).status == 0
    assert space.rvbuild("build", "--json").did("built") == set()
    assert space.rvbuild("clean", "chip").status == 0
    assert space.rvbuild("build", "--json").did("built") == {f"chip:{name}" for name in names.values()}
