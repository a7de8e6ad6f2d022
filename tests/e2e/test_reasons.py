"""What `status` and `why` say: tables, and each kind of change of rvbuild and of packages as a visible reason."""

from __future__ import annotations

from importlib import metadata

from rvbuild import rules

from .conftest import write_labels


def test_status_counts_by_stage_and_lists_what_is_not_fresh(built):
    write_labels(built.root / "data/a.geojson", [(5, 5, 25, 30)])
    out = built.rvbuild("status").out
    table, listed, summary = out.split("\n\n")
    head, *lines = table.splitlines()
    assert head.split() == ["fresh", "restorable", "stale", "waiting", "missing", "failed", "last", "time"]
    rows = {line.split()[0]: line.split()[1:7] for line in lines}
    assert rows["analyze"] == ["3", "·", "·", "·", "·", "·"]
    assert rows["chip"] == ["2", "·", "1", "·", "·", "·"]
    assert rows["train"] == ["·", "·", "·", "1", "·", "·"]
    assert listed.splitlines()[0].startswith("stale      chip:a ")
    assert "labels changed: data/a.geojson" in listed
    assert "chip:b" not in listed
    assert "a run would take up to" in summary
    assert "chip:b" in built.rvbuild("status", "-v").out


def test_why_says_when_what_would_be_restored_was_built(built):
    text = built.project.read_text()
    built.edit("epochs = 2", "epochs = 1")
    assert built.rvbuild("train", "-q").status == 0
    built.project.write_text(text)
    out = built.rvbuild("why", "train").out
    assert out.splitlines()[0] == "train would be restored from the store"
    assert "because train.epochs: 1 → 2" in out
    assert "built 20" in out


def test_a_raised_stage_version_is_a_reason(built, monkeypatch):
    before = rules.RULES["analyze"].VERSION
    monkeypatch.setattr(rules.RULES["analyze"], "VERSION", 99)
    result = built.rvbuild("status", "--json")
    assert result.did("stale") == {"analyze:a", "analyze:b", "analyze"}
    assert any(f"the stage analyze changed: version {before} → 99" in reason for reason in result.reasons("analyze:a"))
    assert f"version {before} → 99" in built.rvbuild("why", "analyze").out


def test_a_changed_default_is_a_reason(built, monkeypatch):
    table = type(built_project(built).file.analyze)
    real = table.stage_settings
    monkeypatch.setattr(table, "stage_settings", lambda self: {**real(self), "sample": 0.5})
    assert "sample: 1.0 → 0.5" in built.rvbuild("status", "--json").reasons("analyze:a")
    assert "because sample: 1.0 → 0.5" in built.rvbuild("why", "analyze:a").out


def test_another_version_of_torch_is_told_and_is_no_reason(built, monkeypatch):
    from rvbuild.session import status as asking

    now = {**asking.versions(), "torch": "9.9"}
    monkeypatch.setattr(asking, "versions", lambda: now)
    out = built.rvbuild("why", "train").out
    assert out.startswith("train is fresh: nothing to do\n")
    assert f"built with another version (no reason to build again): torch {metadata.version('torch')} → 9.9" in out


def test_another_version_of_torch_is_a_reason_where_the_project_is_strict(built, monkeypatch):
    built.edit("[classes]", 'strict = ["torch"]\n\n[classes]')
    before = metadata.version("torch")
    result = built.rvbuild("status", "--json")
    assert f"torch not in the key → {before} (version in the key)" in result.reasons("train")
    assert built.rvbuild("analyze", "-q").status == 0
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "torch" else real(name))
    assert f"torch {before} → 9.9 (version in the key)" in built.rvbuild("status", "--json").reasons("analyze:a")


def built_project(space):
    from rvbuild.project.load import load

    return load(space.project)
