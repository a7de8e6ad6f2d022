"""What scenes contradict each other in, from facts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rvbuild.checks import project as across
from rvbuild.checks import resources
from rvbuild.checks.findings import Level
from rvbuild.project.load import load
from rvbuild.project.model import Project

TEXT = """
[project]
task = "semantic_segmentation"
[classes]
house = "#ff0000"
road = "#00ff00"
[scenes]
train = ["a", "b"]
validation = ["c"]
[scene]
image = "{id}.tif"
labels = { vector = "{id}.geojson", class_attribute = "kind" }
[chip]
size_px = 100
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "p.toml").write_text(TEXT)
    return load(tmp_path / "p.toml")


def facts(**changes: Any) -> dict[str, Any]:
    image = {"height": 300, "width": 300, "crs": "EPSG:32633", "placed": True, "res_m": 0.5, "bands": 3}
    image |= {"dtype": "uint16", "itemsize": 2, "tags": {}}
    labels = {"features": [1, 1, 0], "all": 2}
    scene_facts = {"problems": [], "image": image, "labels": labels, "chips": 9}
    for key, value in changes.items():
        place = image if key in image else scene_facts
        place[key] = value
    return scene_facts


def kinds(project: Project, **scenes: dict[str, Any]) -> list[tuple[str, str]]:
    findings = across.findings(project, {"a": facts(), "b": facts(), "c": facts(), **scenes})
    return [(finding.kind, finding.scene) for finding in findings]


def test_alike(project: Project) -> None:
    assert kinds(project) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bands": 4}, [("different bands", "c")]),
        ({"dtype": "uint8"}, [("different dtype", "c")]),
        ({"crs": None, "res_m": None}, [("no CRS", "c")]),
        ({"crs": "EPSG:25833"}, [("several CRSs", "")]),
        ({"res_m": 0.7}, [("different pixel size", "c")]),
        ({"res_m": 0.52}, []),
        ({"labels": {"features": [3, 0, 0], "all": 3}}, [("never labelled in validation", "")]),
    ],
)
def test_one_scene_that_differs(project: Project, changes: Any, expected: Any) -> None:
    assert kinds(project, c=facts(**changes)) == expected


def test_nothing_to_train_on(project: Project) -> None:
    none = facts(chips=0)
    assert kinds(project, a=none, b=none) == [("no chips at all", "")]
    assert kinds(project, a=none) == []
    bare = facts(labels={"features": [0, 0, 0], "all": 5})
    assert kinds(project, a=bare, b=bare) == [("no labels at all", "")]
    labelled = facts(labels={"features": [1, 0, 0], "all": 5})
    assert kinds(project, a=labelled, b=labelled) == [("never labelled in train", "")]


def test_a_class_that_no_test_scene_shows(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(TEXT.replace("[scene]", 'test = ["t", "u"]\n[scenes.by_id.u]\nlabels = false\n[scene]'))
    labelled = facts(labels={"features": [1, 0, 0], "all": 5})
    unlabelled = facts()
    del unlabelled["labels"]
    assert kinds(load(path), t=labelled, u=unlabelled) == [("never labelled in test", "")]
    assert kinds(load(path), t=facts(), u=unlabelled) == []
    path.write_text(path.read_text() + '[eval]\nsplits = ["validation"]\n')
    assert kinds(load(path), t=labelled, u=unlabelled) == []


def test_a_scene_that_could_not_be_read_says_only_so(project: Project) -> None:
    broken = {"problems": [["error", "image", "x", "cannot be read", []]]}
    assert kinds(project, a=broken) == [("x", "a")]


GIGA = 1_000_000_000


def needs(project: Project, to_cut: Any = (), to_predict: Any = (), model: Any = None, jobs: int = 2) -> Any:
    scenes = {"a": facts(), "b": facts(), "c": facts(cache=300_000_000, vector_bytes=80_000_000)}
    return [
        (f.level, f.kind, f.text, f.key) for f in resources.findings(project, scenes, to_cut, to_predict, model, jobs)
    ]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def has(free: int = 100 * GIGA, memory: int = 100 * GIGA, root: bool = False) -> None:
        monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
        monkeypatch.setattr(resources, "memory_bytes", lambda: memory)
        monkeypatch.setattr(resources.os, "geteuid", lambda: 0 if root else 1000)

    return has


def changed(project: Project, old: str, new: str) -> Project:
    project.path.write_text(TEXT.replace(old, new))
    return load(project.path)


@pytest.mark.parametrize(
    ("train", "of_all", "expected"),
    [
        ('normalize = "pretrained"', {"dtype": "uint8"}, []),
        ('normalize = "pretrained"', {}, ["applies to values from 0 to 1, but uint16 imagery has no fixed range"]),
        ('normalize = "pretrained"\npretrained = "b.zip"', {}, []),
        ("normalize = { mean = [0.5, 0.5], std = [0.2, 0.2] }", {"dtype": "uint8"}, ["has values for 2 bands, but"]),
        ("normalize = { mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2] }", {"dtype": "uint8"}, []),
    ],
)
def test_figures_need_a_range_and_as_many_bands(project: Project, train: str, of_all: Any, expected: Any) -> None:
    asked = changed(project, "[chip]", f"[train]\n{train}\n[chip]")
    scenes = {id_: facts(**of_all) for id_ in "abc"}
    findings = [f for f in across.findings(asked, scenes) if f.kind == "train.normalize"]
    assert [f.level for f in findings] == [Level.ERROR] * len(expected)
    assert all(text in f.text for f, text in zip(findings, expected, strict=True))


@pytest.mark.parametrize(
    ("lines", "of_all", "expected"),
    [
        ('[train]\naugment = ["hue", "flip"]', {"dtype": "uint8"}, []),
        ('[train]\naugment = ["hue", "flip"]', {"bands": 4}, ['"hue" needs uint8 imagery of three bands']),
        ('[train]\naugment = ["band_drop"]', {"bands": 1}, ['"band_drop" needs imagery of 2 bands or more']),
        ('[predict]\nengine = "openvino"', {}, []),
        ('[predict]\nengine = "openvino"', {"dtype": "int32"}, ['int32 imagery; use "onnxruntime" or "torch"']),
        ('[predict]\nengine = "auto"', {"dtype": "float64"}, ["OpenVINO computes in float32"]),
        ('[predict]\nengine = "auto"\ndevice = "cuda"', {"dtype": "float64"}, []),
        ('[predict]\nengine = "onnxruntime"', {"dtype": "float64"}, []),
    ],
)
def test_what_the_imagery_does_not_allow(project: Project, lines: str, of_all: Any, expected: Any) -> None:
    asked = changed(project, "[chip]", f"{lines}\n[chip]")
    findings = list(across.findings(asked, {id_: facts(**of_all) for id_ in "abc"}))
    assert [f.level for f in findings] == [Level.ERROR] * len(expected)
    assert all(text in f.text for f, text in zip(findings, expected, strict=True))


def test_memory_of_what_computes(project: Project, machine: Any) -> None:
    scenes = {"a": facts()}
    model = {"weights": 1_000_000, "train": 10_000_000, "predict": 2_000_000}
    images = 8 * 3 * 100 * 100 * 4
    takes = resources.computing_bytes(project, scenes, model)
    assert takes["train"] == resources.PROCESS_BYTES + 4 * 1_000_000 + 3 * 3 * 100 * 100 + images + 8 * 10_000_000
    assert resources.PROCESS_BYTES < takes["infer"] < takes["train"]
    averaged = resources.computing_bytes(changed(project, "[chip]", "[train]\nema = 0.9\n[chip]"), scenes, model)
    assert averaged["train"] == takes["train"] + 2 * 1_000_000
    sure = resources.computing_bytes(project, scenes, None)
    assert sure["train"] == resources.PROCESS_BYTES + 8 * 100 * 100 * resources.SURE_BYTES > takes["train"]
    machine(memory=2 * sure["train"])
    assert not resources.needs_measuring(project, scenes, 2)
    assert resources.needs_measuring(project, scenes, 3)


def test_disk_for_chips(project: Project, machine: Any) -> None:
    assert resources.chip_bytes(project, facts()) == 9 * 3 * 2 * 100 * 100
    machine(free=1_700_000)
    assert needs(project, "abc") == []
    ((level, _, text, key),) = (machine(free=1_000_000), needs(project, "abc"))[1]
    assert (level, key) == (Level.ERROR, ("chip",))
    assert "the build writes 2 MB of chips but the disk of" in text and "has only 1 MB left" in text
    assert needs(project, "a") == []  # the others are there already
    machine(free=1_700_000, root=True)  # what the workspace shows is a copy
    ((level, _, text, _),) = needs(project, "abc")
    assert level is Level.WARNING and "up to twice that" in text


def test_disk_for_scores(project: Project, machine: Any) -> None:
    scored = changed(project, "[chip]", '[predict]\nscores = "float32"\n[chip]')
    machine(free=600_000)
    ((level, _, text, key),) = needs(scored, (), "c")
    assert (level, key) == (Level.WARNING, ("predict", "scores")) and "up to 1 MB of scores" in text
    assert needs(scored, (), "") == [] and needs(project, (), "c") == []


def test_memory_for_batches(project: Project, machine: Any) -> None:
    machine(memory=500_000)
    assert [(level, kind) for level, kind, *_ in needs(project)] == [
        (Level.ERROR, "train.batch_size"),
        (Level.ERROR, "predict.batch_size"),
    ]
    model = {"weights": 100_000_000, "train": GIGA, "predict": 50_000_000}
    machine(memory=10 * GIGA)
    assert needs(project, model=model) == []
    machine(memory=5 * GIGA)
    ((level, _, text, key),) = needs(project, model=model)
    assert (level, key) == (Level.WARNING, ("train", "batch_size"))
    assert "8 chips of 100 px and 3 bands need about 8.9 GB" in text and "train.batch_size = 4 fits" in text
    machine(memory=GIGA)
    assert "Reduce chip.size_px" in needs(project, model=model)[0][2]


def test_memory_of_a_training_in_several_processes(project: Project, machine: Any) -> None:
    """Each has a model and optimizer of its own, and computes the chips of a shard at once."""
    model = {"weights": 100_000_000, "train": 100_000_000, "predict": 1}
    sharded = changed(project, "[chip]", "[train]\nshards = 4\n[chip]")
    scenes = {"a": facts()}
    machine(memory=3 * GIGA)
    assert not [f for f in resources.findings(sharded, scenes, (), (), model, 1, 2) if f.kind == "train.batch_size"]
    (finding,) = [f for f in resources.findings(sharded, scenes, (), (), model, 1, 4) if f.kind == "train.batch_size"]
    assert "8 chips of 100 px and 3 bands in 4 processes need about " in finding.text
    assert "Use fewer processes (--procs). " in finding.text


def test_memory_for_scenes_that_are_cut_at_once(project: Project, machine: Any) -> None:
    machine(memory=int(1.3 * GIGA))
    ((level, kind, text, _),) = needs(project, "abc", jobs=3)
    assert (level, kind) == (Level.WARNING, "memory") and "with -j 1" in text
    machine(memory=2 * GIGA)
    assert needs(project, "abc", jobs=3) == []


def test_what_surely_fits_is_not_measured(project: Project, machine: Any) -> None:
    machine()
    assert not resources.needs_measuring(project, {"a": facts()})
    machine(memory=2 * GIGA)
    assert resources.needs_measuring(project, {"a": facts()}) and not resources.needs_measuring(project, {})


def test_the_memory_of_the_machine_is_known() -> None:
    size = resources.memory_bytes()
    assert size is not None and size > 100_000_000


@pytest.mark.parametrize(
    ("images", "boxes", "expected"),
    [
        ("{id}/i.tif", {"a": "a/i.tif", "b": "b/i.tif"}, {}),
        ("{id}/i.tif", {"a": "a/i.tif", "b": "a/i.tif"}, {"b": "By its folders, the name refers to the latter"}),
        ("{id}/i.tif", {"a": "b/i.tif", "b": "b/i.tif"}, {"a": "By its folders, the name refers to the latter"}),
        (
            "{id}/i.tif",
            {"a": "i.tif", "b": "i.tif", "c": "i.tif"},
            {"b": "For each scene, set", "c": "For each scene, set"},
        ),
    ],
)
def test_boxes_of_one_image_are_not_taken_for_two(tmp_path: Path, images: str, boxes: Any, expected: Any) -> None:
    (tmp_path / "p.toml").write_text(TEXT.replace("{id}.tif", images))
    project = load(tmp_path / "p.toml")
    findings = across.findings(project, {i: facts(boxes_of=[["l.json", n]]) for i, n in boxes.items()})
    texts = {finding.scene: finding.text for finding in findings if finding.kind == "boxes of another image"}
    assert texts.keys() == expected.keys()
    assert all(text in texts[scene] for scene, text in expected.items())


def test_nothing_to_validate_on(tmp_path: Path) -> None:
    none = facts(chips=0)
    for key, kinds_found in (('select = "best"', [("no chips to validate", "")]), ("epochs = 2", [])):
        (tmp_path / "p.toml").write_text(f"{TEXT}[train]\n{key}\n")
        assert kinds(load(tmp_path / "p.toml"), c=none) == kinds_found
