"""The store and the past, as a user meets them: cache, log, diff, clean, why."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from .conftest import Space

ALL = {"analyze:a", "analyze:b", "analyze", "chip:a", "chip:b", "chip:c", "train"}
ALL |= {"infer:c", "predict:c", "eval:c", "eval", "bundle", "report:c", "report"}


def test_stats_gc_and_verify(built):
    stats = json.loads(built.rvbuild("cache", "stats", "--json").out)
    assert stats["shown"]["count"] == len(ALL)
    assert stats["checkpoints"]["count"] == 1
    assert stats["gc"] == {"size": 0, "most": 0}
    assert "contents of artifacts" in built.rvbuild("cache", "stats").out
    built.edit("stride_px = 16", "stride_px = 32")
    assert built.rvbuild("build", "-q").status == 0
    listed = built.rvbuild("cache", "gc", "-n", "--max-size", "0", "--grace", "0s").out
    assert "infer:p:c" in listed
    assert "would free" in listed
    freed = built.rvbuild("cache", "gc", "--max-size", "0", "--grace", "0s").out
    assert "freed" in freed
    assert "more than 0 B" in freed
    assert set(built.rvbuild("status", "--json").did("fresh")) == ALL
    verified = built.rvbuild("cache", "verify")
    assert (verified.status, "all good" in verified.out) == (0, True)
    spoilt = max((built.root / "cache/store/objects").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    spoilt.chmod(0o644)
    spoilt.write_bytes(b"rotten")
    verified = built.rvbuild("cache", "verify")
    assert verified.status == 1
    assert "damaged  content" in verified.out
    assert "healed   content" in verified.out
    assert built.rvbuild("cache", "verify").status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cache", "gc", "--max-size", "10 parsecs"], "is not a size"),
        (["cache", "gc", "--older-than", "yesterday"], "is not an age"),
        (["cache", "push"], "give one address"),
        (["cache", "pull", "nothing://x"], "not the address of a store"),
        (["cache", "pull", "nowhere"], "cache pull nowhere: no such directory"),
        (["diff", "chap"], 'did you mean "chip"'),
        (["diff", "chip"], "there are several"),
        (["diff", "train@3"], "it was never built here"),
        (["diff", "abcdef0123"], "no build has such a key"),
        (["log", "chap"], 'did you mean "chip"'),
        (["log", "chip", "train"], "at a time"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(space, words, message, monkeypatch):
    monkeypatch.delenv("RVBUILD_REMOTE", raising=False)
    result = space.rvbuild(*words)
    assert result.status == 2, result.out
    assert message in result.err
    assert "Traceback" not in result.err


def test_log_and_diff(built):
    assert built.rvbuild("diff", "train@1").status == 2
    built.edit("lr = 1e-2", "lr = 2e-2")
    assert built.rvbuild("build", "-q").status == 0
    newest = built.rvbuild("log", "train", "--json").json["log"][0]
    assert (newest["state"], newest["version"], newest["project"]) == ("built", 0, "p")
    assert newest["reasons"] == ["train.lr: 0.01 → 0.02"]
    assert "train@1" in built.rvbuild("log", "train", "projects/p.toml").out
    assert len(built.rvbuild("log", "-n", "3").out.splitlines()) == 3
    result = built.rvbuild("diff", "eval")
    assert result.status == 0, result.err
    assert "train.lr: 0.01 → 0.02" in result.out  # followed through predict to train
    assert "mean_iou" in result.out
    report = built.rvbuild("diff", "eval@1", "eval@0", "--json").json
    assert len(report["metrics"]["mean_iou"]) == 2
    assert built.rvbuild("diff", newest["key"][:10], "train").out.count("nothing differs") == 1
    assert "builds of" in built.rvbuild("diff", "train@0", "eval@0").err


def test_why_says_what_would_be_restored(built):
    shutil.rmtree(built.root / "cache/p/train")
    output = built.rvbuild("why", "train").out
    assert "would be restored from the store" in output
    assert "files, " in output
    assert ", built 2" in output


def test_clean_lists_what_it_removes_and_keep_cache_restores(built):
    before = built.shown()
    output = built.rvbuild("clean", "train", "--keep-cache").out
    assert "p: train removed, kept in the store" in output
    assert "cache/p/train/{" in output
    assert built.rvbuild("status", "--json").did("restorable") == {"train"}
    assert built.rvbuild("build", "--json").did("restored") == {"train"}
    assert built.shown() == before
    assert built.rvbuild("log", "train", "--json").json["log"][1]["state"] == "cleaned"
    output = built.rvbuild("clean", "train").out
    assert "p: train forgotten" in output
    assert built.rvbuild("status", "--json").did("missing") == {"train"}


def test_clean_without_a_project_lists_what_it_removes_of_each(built):
    shutil.copy(built.project, built.project.with_name("q.toml"))
    assert built.rvbuild("build", "projects/q.toml", "--json").did("built") == set()
    lines = built.rvbuild("clean", "chip", "eval", "--yes").out.splitlines()
    heads = [line for line in lines if not line.startswith("  ")]
    assert [re.sub(r"\d[\d.]*", "some", line) for line in heads] == [
        f"{name}: chip, eval forgotten, some files removed; to build them again: about some s of work" for name in "pq"
    ]
    assert sum("cache/q/chip/" in line for line in lines) == 3
    assert not list((built.root / "cache").glob("[pq]/chip"))


def test_a_rotten_object_is_put_aside_and_built_again(built):
    shown = built.shown()
    (chips,) = (p for p in (built.root / "cache/p/chip/a").iterdir() if p.name.startswith("images"))
    rotten = [p for p in (built.root / "cache/store/objects").rglob("*") if p.is_file()]
    rotten = [p for p in rotten if p.read_bytes() == chips.read_bytes()]
    rotten[0].chmod(0o644)
    rotten[0].write_bytes(b"x" * rotten[0].stat().st_size)
    assert set(built.rvbuild("status", "--json").did("fresh")) == ALL  # nobody needs it now
    shutil.rmtree(built.root / "cache/p/chip")
    result = built.rvbuild("build", "--json")
    assert result.did("built") == {"chip:a"}
    assert result.did("restored") == {"chip:b", "chip:c"}
    assert "chip:a: the copy in the store was damaged (moved to quarantine): built again" in result.err
    assert len(list((built.root / "cache/store/quarantine").iterdir())) == 1
    assert built.shown() == shown


def test_a_clone_pulls_what_it_needs(built, template, tmp_path, monkeypatch):
    remote = tmp_path / "remote"
    assert "sent 14 results" in built.rvbuild("cache", "push", str(remote)).out
    assert "sent 0 results" in built.rvbuild("cache", "push", str(remote)).out
    shutil.copytree(template, tmp_path / "clone")
    clone = Space(tmp_path / "clone")
    monkeypatch.setenv("RVBUILD_REMOTE", f"file://{remote}")
    result = clone.rvbuild("cache", "pull")
    assert (result.status, "fetched 14 results" in result.out) == (0, True), result.out + result.err
    assert clone.rvbuild("build", "--json").did("restored") == ALL
    assert clone.shown() == built.shown()
    clone.edit("lr = 1e-2", "lr = 2e-2")
    assert "artifacts are still to be built" in clone.rvbuild("cache", "pull").out
    assert "fetched 0 results" in clone.rvbuild("cache", "pull", "--all").out


def test_a_clone_builds_from_a_store_elsewhere_without_a_pull(built, template, tmp_path, monkeypatch):
    remote = tmp_path / "remote"
    assert built.rvbuild("cache", "push", str(remote)).status == 0
    shutil.copytree(template, tmp_path / "other name")
    clone = Space(tmp_path / "other name")
    clone.project = clone.project.rename(clone.project.with_name("q.toml"))
    monkeypatch.setenv("RVBUILD_REMOTE", str(remote))
    assert clone.rvbuild("status", "--json").did("restorable") == ALL
    assert not list((clone.root / "cache/store/objects").iterdir())
    assert clone.rvbuild("build", "--json").did("restored") == ALL
    assert {n.replace("q.zip", "p.zip"): b for n, b in clone.shown("q").items()} == built.shown()
    assert clone.rvbuild("clean", "eval").status == 0
    assert clone.rvbuild("build", "--json").did("built") == {"eval:c", "eval"}
    monkeypatch.setenv("RVBUILD_REMOTE_READ_ONLY", "1")
    result = clone.rvbuild("cache", "push")
    assert (result.status, "RVBUILD_REMOTE_READ_ONLY" in result.err) == (2, True)
    monkeypatch.setenv("RVBUILD_REMOTE", "nothing://x")
    assert clone.rvbuild("build").status == 0  # nothing is lacking, so nobody asks
    clone.project.write_text(clone.project.read_text().replace("lr = 1e-2", "lr = 2e-2"))
    result = clone.rvbuild("build")
    assert (result.status, "nothing://x" in result.err) == (2, True)


def test_asking_about_the_past_of_nothing(tmp_path):
    empty = Space(tmp_path)
    assert "nothing was built here yet" in empty.rvbuild("log").out
    assert empty.rvbuild("log", "--json").json == {"log": []}
    assert not (tmp_path / "cache").exists()
    assert empty.rvbuild("cache", "stats").status == 2
