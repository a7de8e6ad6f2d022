from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.cli.report import duration, where
from rvbuild.cli.words import normal_words


@pytest.mark.parametrize(
    ("words", "normal"),
    [
        (["build", "p.toml"], ["build", "/w/p.toml"]),
        (["build", "-j", "4", "./p.toml", "-v"], ["build", "/w/p.toml"]),
        (["predict", "-j4", "-k", "q.toml", "p.toml"], ["predict", "/w/q.toml", "/w/p.toml"]),
        (["predict", "x.zip", "a.tif", "-o", "out"], None),
        (["build", "-B", "p.toml"], None),
        (["build", "-j", "0", "p.toml"], None),
        (["build", "-j", "many", "p.toml"], None),
        (["build", "-j0", "p.toml"], None),
        (["build", "-n", "p.toml"], None),
        (["build", "--json", "p.toml"], None),
        (["build", "--set", "train.lr=1", "p.toml"], None),
        (["build", "--scene", "a", "p.toml"], None),
        (["status", "p.toml"], None),
        (["build"], None),
        ([], None),
    ],
)
def test_which_words_a_seal_may_answer(words, normal, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.path.abspath", lambda p: "/w/" + str(p).removeprefix("./"))
    assert normal_words(words) == normal


def test_no_project_means_every_project(tmp_path, monkeypatch):
    (tmp_path / "projects").mkdir()
    for name in ("b", "a"):
        (tmp_path / f"projects/{name}.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert normal_words(["train"]) == ["train", f"{tmp_path}/projects/a.toml", f"{tmp_path}/projects/b.toml"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.2, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_where_names_what_a_person_opens():
    outputs = [f"cache/p/predict/{i}/labels.tif" for i in range(6)] + ["cache/p/train/model.json"]
    lines = where(Path.cwd(), outputs, ("labels.tif",))
    assert lines[:2] == ["  cache/p/predict/0/labels.tif", "  cache/p/predict/1/labels.tif"]
    assert lines[-1] == "  … and 2 more like it"
