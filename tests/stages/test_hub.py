"""A bundle as the files of a model repository of the Hugging Face hub, and back."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rvbuild.errors import DataError, UsageError
from rvbuild.learn import models
from rvbuild.learn.model_files import read_info
from rvbuild.progress import Silent
from rvbuild.stages.bundle.hub import front_matter
from rvbuild.stages.bundle.hub.folder import as_bundle, require_ours
from rvbuild.stages.bundle.hub.repository import preprocessor, write_repository
from tests.learn.chipmaker import Notes
from tests.stages.sample_bundles import LOG, PORTABLE, contents, pack, rewrite
from tests.stages.sample_scenes import empty, write_model

FILES = [
    "README.md", "config.json", "manifest.json", "model.json", "model.safetensors", "preprocessor_config.json",
    "project.json", "stats.json",
]  # fmt: skip


def log_file(folder: Path) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LOG))
    return path


def write(bundle: Path, folder: Path, progress: Any = None, **about: Any) -> list[str]:
    given: Any = {**PORTABLE, **about}
    return write_repository(bundle, log_file(bundle.parent), given, "crowns", folder, progress or Silent())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return pack(empty(tmp_path / "bundle"), write_model(tmp_path / "model"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def metadata(folder: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    head, _, _ = (folder / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    content: dict[str, Any] = yaml.safe_load(head)
    return content


def test_examples() -> None:
    assert doctest.testmod(front_matter).failed == 0


def test_it_is_written_with_the_same_bytes_and_read_back(tmp_path: Path, bundle: Path) -> None:
    assert sorted(write(bundle, tmp_path / "a")) == FILES == sorted(bytes_of(tmp_path / "a"))
    write(bundle, tmp_path / "b")
    write(bundle, tmp_path / "b")  # over its own files
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    (tmp_path / "a/LICENSE").write_text("mine")
    (tmp_path / "a/README.md").write_text("edited")
    with as_bundle(tmp_path / "a") as back:
        assert back.name == "a.zip" and contents(back) == contents(bundle)
    with as_bundle(bundle) as same:
        assert same == bundle


def test_what_the_hub_reads(tmp_path: Path, bundle: Path) -> None:
    write(bundle, tmp_path / "hub", start="random")
    found = metadata(tmp_path / "hub")
    assert found["pipeline_tag"] == "image-segmentation" and found["library_name"] == "rvbuild"
    assert "license" not in found and "onnx" not in found["tags"]
    assert found["metrics"] == ["mean_iou"]
    (result,) = found["model-index"][0]["results"]
    assert result["task"] == {"type": "image-segmentation"} and set(result["dataset"]) == {"type", "name"}
    assert {"type": "mean_iou", "name": "mean_iou", "value": 0.5} in result["metrics"]
    config = json.loads((tmp_path / "hub/config.json").read_text())
    assert config["id2label"] == {"0": "car", "1": "tree"} and config["model_type"] == "rvbuild"
    card = (tmp_path / "hub/README.md").read_text()
    assert "rvbuild predict DIR image.tif" in card and "model.onnx" not in card


@pytest.mark.parametrize(
    ("encoder", "licence", "base"),
    [
        ("timm/resnet18.a1_in1k", {"license": "apache-2.0"}, "timm/resnet18.a1_in1k"),
        (
            "timm/vit_large_patch16_dinov3.sat493m",
            {"license": "other", "license_name": "dinov3-license"},
            "timm/vit_large_patch16_dinov3.sat493m",
        ),
        (
            "olmoearth/v1_2_nano",
            {"license": "other", "license_name": "olmoearth-artifact-license"},
            "allenai/OlmoEarth-v1_2-Nano",
        ),
        ("torchvision/resnet18", {}, None),
    ],
)
def test_the_licence_is_that_of_the_weights_that_the_training_started_from(
    tmp_path: Path, bundle: Path, encoder: str, licence: dict[str, str], base: str | None
) -> None:
    yaml = pytest.importorskip("yaml")
    write(bundle, tmp_path / "hub")
    info = replace(read_info(tmp_path / "hub/model.json"), model_args={"encoder": encoder})
    for start in ("torchvision", "random", "file"):
        text = front_matter.front_matter(info, "crowns", start, None, False)
        found = yaml.safe_load(text.strip().strip("-"))
        expected = licence if start == "torchvision" else {}
        assert {key: found.get(key) for key in ("license", "license_name") if key in found} == expected
        assert found.get("base_model") == (base if start == "torchvision" else None)


def test_a_bundle_that_is_there_is_enough(tmp_path: Path, bundle: Path, exported: Path) -> None:
    write_repository(bundle, None, None, "crowns", tmp_path / "hub", Silent())
    write(bundle, tmp_path / "of_project")
    of_project, found = bytes_of(tmp_path / "of_project"), bytes_of(tmp_path / "hub")
    assert sorted(found) == FILES
    # Only what the card tells of the training differs, and the digest of the card.
    assert [name for name in FILES if found[name] != of_project[name]] == ["README.md", "config.json"]
    card = found["README.md"].decode()
    assert "does not tell what its training started from" in card and "train scenes" not in card
    assert "model-index" not in metadata(tmp_path / "hub") and "rvbuild predict DIR image.tif" in card
    # A bundle with ONNX has a card of its own.
    write_repository(exported, None, None, "crowns", tmp_path / "onnx", Silent())
    card, own = (tmp_path / "onnx/README.md").read_text(), contents(exported)["README.md"].decode()
    assert card.endswith(own.replace("BUNDLE.zip", "DIR")) and "- train scenes: 3" in card
    assert "onnx" in metadata(tmp_path / "onnx")["tags"]
    with as_bundle(tmp_path / "onnx") as back:
        members = contents(exported).keys() - {"README.md", "manifest.json"}
        assert {name: contents(back)[name] for name in members} == {name: contents(exported)[name] for name in members}


def test_a_bundle_of_strangers_is_checked(tmp_path: Path, bundle: Path) -> None:
    members = contents(bundle)
    content = json.loads(members["project.json"])
    content["chip_px"] = -1
    path = rewrite(bundle, {**members, "project.json": json.dumps(content).encode()})
    with pytest.raises(DataError, match=r"chip_px: expected a whole number of at least 1"):
        write_repository(path, None, None, "crowns", tmp_path / "hub", Silent())
    assert not (tmp_path / "hub").exists()


def test_only_what_rvbuild_has_written_is_replaced(tmp_path: Path, bundle: Path) -> None:
    folder = tmp_path / "hub"
    (folder / ".git").mkdir(parents=True)
    write(bundle, folder)
    (folder / "LICENSE").write_text("mine")
    (folder / "README.md").write_text("edited")
    config = json.loads((folder / "config.json").read_text())
    config["files"] |= {"model.onnx": "0", "../outside": "0", "old.json": "0"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "old.json").write_text("not as it was written")
    (tmp_path / "outside").write_text("")
    notes = Notes()
    write(bundle, folder, notes)
    assert (folder / "README.md").read_text() == "edited" and (folder / "LICENSE").read_text() == "mine"
    assert (folder / "old.json").exists() and (tmp_path / "outside").exists()
    assert [note for note in notes.notes if "was edited, and stays as it is" in note] != []


def test_another_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("")
    (tmp_path / "full/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match=r"--hf .*full: has other files \(config.json, notes.txt\)"):
        require_ours(tmp_path / "full")
    with pytest.raises(UsageError, match="is not a directory"):
        require_ours(tmp_path / "full/notes.txt")
    require_ours(tmp_path / "new")


def test_what_was_changed_on_the_way_is_told(tmp_path: Path, bundle: Path) -> None:
    write(bundle, tmp_path / "hub")
    weights = tmp_path / "hub/model.safetensors"
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="git lfs pull"), as_bundle(tmp_path / "hub"):
        pass
    weights.unlink()
    with pytest.raises(DataError, match=r"it lacks model\.safetensors"), as_bundle(tmp_path / "hub"):
        pass
    manifest = json.loads((tmp_path / "hub/manifest.json").read_text())
    manifest["members"]["../outside.json"] = manifest["members"]["model.json"]
    (tmp_path / "hub/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not the manifest of a bundle"), as_bundle(tmp_path / "hub"):
        pass


def test_the_weights_load_again(tmp_path: Path, bundle: Path) -> None:
    write(bundle, tmp_path / "hub")
    info = read_info(tmp_path / "hub/model.json")
    path = tmp_path / "hub/model.safetensors"
    model = models.build(
        info.task, info.model, bands=info.bands, outputs=2, args=info.model_args, pretrained=path, chip_px=16
    )
    stored = safetensors.torch.load_file(path)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_the_preprocessing_has_the_names_of_transformers(tmp_path: Path, bundle: Path) -> None:
    write(bundle, tmp_path / "hub")
    info = read_info(tmp_path / "hub/model.json")
    scores: Any = {"kind": "zscore", "mean": [1.0] * 3, "std": [2.0] * 3, "max_stds": 3.0}
    found = preprocessor(replace(info, normalize=scores))
    assert found["image_mean"] == [1.0] * 3 and found["do_rescale"] is False
    scaled: Any = {"kind": "scale", "max": 255, "standard": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    found = preprocessor(replace(info, normalize=scaled))
    assert found["rescale_factor"] == 1 / 255 and found["image_std"] == [0.25] * 3
