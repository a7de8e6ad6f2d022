"""The same inputs give the same bytes: in another process and place, with any number of jobs, trained on or anew.

The number of threads shows in the last digits of a model, so trainings here have two, or what the project says.
"""

from __future__ import annotations

import re
import shutil

import pytest

from .conftest import Space


def epochs(out: str) -> list[int]:
    """Return the epochs that a training went through, from what it says."""
    return [int(n) for n in re.findall(r"epoch (\d+)/", out)]


@pytest.mark.timeout(600)
def test_one_and_four_jobs_give_the_same_digests(template, tmp_path, monkeypatch):
    """In this process one by one, and in four others at once, in another order."""
    monkeypatch.setenv("RVBUILD_THREADS", "2")
    digests = []
    for folder, jobs in (("one", "1"), ("an other/four", "4")):
        space = Space(tmp_path / folder)
        shutil.copytree(template, space.root)
        space.edit("stride_px = 16", 'stride_px = 16\nscores = "uint8"\nrgb = true\nvectors = [{ class = "building" }]')
        space.edit("epochs = 2", "epochs = 1")
        result = space.rvbuild("build", "--json", "-j", jobs, inline=jobs == "1")
        assert result.status == 0, result.out + result.err
        keys = {(a["stage"], a["scene"]): a["key"] for a in result.json["artifacts"]}
        digests.append((keys, space.shown()))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1].keys() == digests[1][1].keys()
    assert [path for path in digests[0][1] if digests[0][1][path] != digests[1][1][path]] == []


@pytest.mark.timeout(600)
def test_two_trainings_at_once_give_what_they_give_one_by_one(template, tmp_path, monkeypatch):
    """A training has the threads that its project gives it, however many there are at once, and others have."""
    digests = []
    for folder, jobs, threads, of_machine in (("one", "1", 1, "3"), ("four", "4", 1, "2"), ("two", "1", 2, "1")):
        monkeypatch.setenv("RVBUILD_THREADS", of_machine)
        space = Space(tmp_path / folder)
        shutil.copytree(template, space.root)
        space.edit("epochs = 2", f"epochs = 1\nthreads = {threads}")
        text = space.project.read_text()
        other = space.project.with_name("q.toml")
        other.write_text(text.replace("[classes]", "seed = 7\n[classes]", 1))
        result = space.rvbuild("train", "--json", "-j", jobs, inline=jobs == "1")
        assert result.status == 0, result.out + result.err
        shown = {name: space.shown(name)["train/model.safetensors"] for name in ("p", "q")}
        assert shown["p"] != shown["q"]
        digests.append(shown)
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]  # or else this test could not fail


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_workers_of_a_cluster_give_what_this_machine_gives(template, tmp_path):
    """All files and keys of two projects, whose trainings run at once on a cluster."""
    pytest.importorskip("distributed", reason="needs rvbuild[dask]")
    results = []
    for folder, words in (("here", ()), ("four", ("--on", "local:4"))):
        space = Space(tmp_path / folder)
        shutil.copytree(template, space.root)
        space.edit("epochs = 2", "epochs = 1\nthreads = 1")
        other = space.project.with_name("q.toml")
        other.write_text(space.project.read_text().replace("[classes]", "seed = 7\n[classes]", 1))
        result = (space.process if words else space.rvbuild)("build", "--json", *words)
        assert result.status == 0, result.out + result.err
        artifacts = result.json["artifacts"]
        assert all("host" in artifact for artifact in artifacts if artifact["state"] == "built") == bool(words)
        keys = {(a["project"], a["stage"], a["scene"]): a["key"] for a in artifacts}
        results.append((keys, space.shown("p"), space.shown("q")))
    assert results[0] == results[1]
    assert {stage for _, stage, _ in results[0][0]} >= {"train", "predict", "eval", "bundle"}


@pytest.mark.parametrize(("schedule", "goes_on"), [("constant", True), ("one_cycle", False)])
def test_more_epochs(template, tmp_path, schedule, goes_on):
    extended, scratch = Space(tmp_path / "extended"), Space(tmp_path / "scratch")
    for space, first in ((extended, 2), (scratch, 4)):
        shutil.copytree(template, space.root)
        space.edit("epochs = 2", f'epochs = {first}\nschedule = "{schedule}"')
        assert epochs(space.rvbuild("train").out) == list(range(1, first + 1))
    extended.edit("epochs = 2", "epochs = 4")
    assert epochs(extended.rvbuild("train").out) == ([3, 4] if goes_on else [1, 2, 3, 4])
    assert extended.shown() == scratch.shown()
    extended.edit("epochs = 4", "epochs = 2")
    assert extended.rvbuild("train", "--json").did("restored") == {"train"}
