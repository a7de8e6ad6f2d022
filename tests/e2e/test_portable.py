"""A project whose bundle runs elsewhere: built, and used by another engine."""

from __future__ import annotations

import importlib.util
import zipfile

import pytest

from tests.e2e.conftest import Space


def test_a_bundle_with_onnx(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = space.rvbuild("bundle", "projects/p.toml", "--json").json["artifacts"]
    with space.project.open("a") as file:
        file.write("\n[bundle]\nonnx = true\n")
    with monkeypatch.context() as patch:
        find = importlib.util.find_spec
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
        for command in ("bundle", "check"):
            result = space.rvbuild(command, "projects/p.toml")
            assert result.status == 2 and "Traceback" not in result.err
            assert (
                "bundle.onnx: true needs packages that are not installed (onnxscript): pip install 'rvbuild[onnx]'"
                in (result.out + result.err)
            )
    result = space.rvbuild("bundle", "projects/p.toml", "--json")
    assert result.did("built") == {"bundle"}, result.out + result.err
    keys = {a["stage"]: a["key"] for a in result.json["artifacts"]}
    assert [a["stage"] for a in plain if a["key"] != keys[a["stage"]] and a["stage"] not in ("chip", "analyze")] == [
        "bundle"
    ]
    bundle = space.root / "cache/p/bundle/p.zip"
    with zipfile.ZipFile(bundle) as archive:
        assert "model.onnx" in archive.namelist()
    for engine in ("torch", "onnxruntime"):
        result = space.rvbuild(
            "predict", str(bundle), str(space.root / "data/c.tif"), "-o", str(space.root / engine), "--engine", engine
        )
        assert result.status == 0, result.out + result.err
    one, other = (sorted(p.name for p in (space.root / e / "c").iterdir()) for e in ("torch", "onnxruntime"))
    assert one == other and "labels.tif" in one
    hub = str(space.root / "hub")
    result = space.rvbuild("bundle", "--hf", hub, "projects/p.toml")
    assert result.status == 0 and "nothing was uploaded" in result.out, result.out + result.err
    result = space.rvbuild("predict", hub, str(space.root / "data/c.tif"), "-o", str(space.root / "again"))
    assert result.status == 0, result.out + result.err
    assert all(
        p.read_bytes() == (space.root / "again/c" / p.name).read_bytes() for p in (space.root / "torch/c").iterdir()
    )
    result = space.rvbuild("bundle", "--verify", hub)
    assert result.status == 0 and f"{hub}: the 7 members are those of the manifest" in result.out
    result = space.rvbuild("bundle", "--hf", str(space.root / "data"), "projects/p.toml")
    assert result.status == 2 and "is no model repository that rvbuild has written" in result.err
    rewritten = str(space.root / "rewritten")
    result = space.rvbuild("bundle", "--hf", rewritten, str(space.root / "cache/p/bundle/p.zip"))
    assert result.status == 0 and "nothing was uploaded" in result.out, result.out + result.err
    assert space.rvbuild("bundle", "--hf", rewritten, "a.zip", "b.zip").status == 2
    result = space.rvbuild("bundle", "--hf", rewritten, "--json", "a.zip")
    assert result.status == 2 and "--json applies to project files, not to a bundle" in result.err
    result = space.rvbuild("bundle", "--hf", hub, "--verify", hub)
    assert result.status == 2 and "choose one" in result.err
    result = space.rvbuild("predict", "projects/p.toml", "--engine", "torch")
    assert result.status == 2 and "--engine, --tta, --asset, --allow-code: for a bundle" in result.err
