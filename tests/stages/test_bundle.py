from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from pathlib import Path

import pytest

from rvbuild.errors import ModelError
from rvbuild.progress import Silent
from rvbuild.stages.bundle import write as bundle
from rvbuild.stages.bundle.predict import open_bundle
from tests.stages.sample_bundles import CODE, MEMBERS, contents, pack, settings, with_code
from tests.stages.sample_scenes import empty, write_model


def test_what_is_in_a_bundle(packed: Path, tmp_path: Path) -> None:
    members = contents(packed)
    assert sorted(members) == MEMBERS
    assert members["model.safetensors"] == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert json.loads(members["project.json"]) == settings()
    manifest = json.loads(members.pop("manifest.json"))
    assert manifest == {
        "format": "rvbuild bundle 2",
        "members": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in members.items()
        },
    }


def test_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    first, second = (pack(empty(tmp_path / name), write_model(tmp_path / name / "model")) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_entries_have_no_dates_of_their_own(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = [entry.filename for entry in archive.infolist()]
        assert names == [*sorted(set(names) - {"manifest.json"}), "manifest.json"]
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.compress_type == zipfile.ZIP_STORED
            assert stat.filemode(entry.external_attr >> 16) == "-rw-r--r--"


def test_code_is_packed_to_be_read(tmp_path: Path) -> None:
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": CODE, "nets": ""}))
    members = contents(path)
    assert members["code/nets/small.py"].decode() == CODE
    assert members["code/nets.py"] == b""
    open_bundle(path, empty(tmp_path / "into"))
    assert (tmp_path / "into" / "code" / "nets" / "small.py").read_text() == CODE


def test_a_bundle_holds_the_code_of_the_workspace_and_no_other(tmp_path: Path) -> None:
    """A result of train, which may come from a store of others, chooses neither the factory nor its text."""
    model = with_code(tmp_path / "model", {"nets.small": CODE})
    stats = tmp_path / "stats.json"
    stats.write_text('{"bands": [], "dtype": "uint8"}\n')
    named = {"model": "nets.small:small", "model_args": {}}
    (tmp_path / "out").mkdir()
    inputs = {"model": model, "stats": [stats], "code": []}
    bundle.run(inputs, {**settings(), "trained": named}, tmp_path / "out", Silent())
    assert not [name for name in contents(tmp_path / "out/bundle.zip") if name.startswith("code/")]
    with pytest.raises(
        ModelError, match=r'the model was created by "nets\.small:small", but the project names "nets\.big:big"'
    ):
        bundle.run(inputs, {**settings(), "trained": {**named, "model": "nets.big:big"}}, tmp_path / "out", Silent())
