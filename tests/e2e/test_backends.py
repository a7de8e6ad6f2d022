"""Training backends: the example of the documentation, from chips to an evaluation, and what an edit runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

import rvbuild

from .conftest import Space, write_labels

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[2] / "docs/backends.md").read_text(encoding="utf-8")
(TABLE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
(NEAREST,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

CELLS = """\
import numpy as np


class Brightest:
    def __init__(self, spec):
        self.spec = spec

    def train(self, chips, validation, *, seed, progress):
        means = [[chip["image"].mean() for chip in chips if chip["classes"] == id] for id in self.spec.output_ids]
        return {"means": np.array([np.mean(values) for values in means])}

    def load(self, arrays):
        def predict(images, valid):
            distances = abs(images.mean(axis=(1, 2, 3))[:, None] - arrays["means"])
            return distances[:, ::-1] / distances.sum(axis=1, keepdims=True)

        return predict
"""


def use(space: Space, code: str = NEAREST, table: str = TABLE) -> Space:
    """Give a workspace a backend in the place of its model."""
    text = space.project.read_text()
    space.project.write_text(re.sub(r"\[train\]\n(.+\n)+", table, text))
    (space.root / "nearest.py").write_text(code)
    return space


def build(space: Space, *words: str) -> set[str]:
    """Build everything; return what was built."""
    result = space.rvbuild("build", "--json", *words)
    assert result.status == 0, result.out + result.err
    return result.did("built")


def test_no_stage_imports_torch(space: Space) -> None:
    there = "import sys\n\n\ndef see():\n    assert 'torch' not in sys.modules\n"
    code = NEAREST.replace("        sums = ", "        see()\n        sums = ")
    code = code.replace("            distances = ", "            see()\n            distances = ")
    assert code.count("see()") == 2
    result = use(space, there + code).process("build", "--json")
    assert result.status == 0, result.out + result.err
    assert {"train", "infer:c", "eval", "report", "bundle"} <= result.did("built")
    assert rvbuild.open(space.project).evaluation().summary["overall"]["mean_iou"] > 0.95
    assert "epoch" not in (space.root / "cache/p/report/index.html").read_text()


def test_an_edit_runs_what_depends_on_it(space: Space) -> None:
    build(use(space))
    first = space.shown()
    assert build(space) == set()

    code = space.root / "nearest.py"
    code.write_text(NEAREST.replace("10.0", "12.0").replace("class NearestMean", "# a comment\nclass NearestMean"))
    assert build(space) == {"train", "infer:c", "bundle"}  # the same means, and probabilities
    code.write_text("# a comment\n" + NEAREST)
    assert build(space) == {"bundle"}  # which holds the text
    code.write_text(NEAREST)
    assert build(space) == set() and space.shown() == first

    labels = space.root / "data/a.geojson"
    before = labels.read_text()
    write_labels(labels, [(5, 5, 30, 50)])
    assert {"chip:a", "train", "infer:c", "bundle"} <= build(space)
    assert space.shown()["train/model.safetensors"] != first["train/model.safetensors"]
    labels.write_text(before)
    assert build(space) == set() and space.shown() == first

    assert build(space, "--set", "train.backend_args.softness=5.0") >= {"train", "infer:c", "bundle"}
    assert build(space) == set()


def test_a_clean_build_has_the_same_bytes(space: Space, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(use(space).root, other)
    build(space)
    assert {"train", "infer:c"} <= build(Space(other), "--set", "chip.store=false")
    shown, clean = space.shown(), Space(other).shown()
    for name in ("train/model.safetensors", "train/model.json", "predict/c/raw_labels.tif", "eval/eval.json"):
        assert shown[name] == clean[name]


def test_validation_chips_are_there_unless_they_must_not_count(space: Space) -> None:
    says = "        progress.note(f'{len(chips)} and {len(validation or ())} chips')\n        sums = "
    use(space, NEAREST.replace("        sums = ", says))
    trained = space.rvbuild("train", "-v")
    assert "18 and 9 chips" in trained.out, trained.out
    labels = space.root / "data/c.geojson"
    write_labels(labels, [(5, 5, 30, 50)])
    assert {"chip:c", "train", "eval:c"} <= build(space)
    build(space, "--set", "train.validation=false")
    write_labels(labels, [(5, 5, 31, 50)])
    assert "train" not in build(space, "--set", "train.validation=false")


def test_a_bundle_and_the_library_predict_what_the_stage_does(space: Space, tmp_path: Path) -> None:
    build(use(space))
    bundle, shown = space.root / "cache/p/bundle/p.zip", space.root / "cache/p/predict/c"
    refused = space.rvbuild("predict", str(bundle), "data/c.tif", "-o", "out")
    assert refused.status == 1 and "--allow-code" in refused.err and "Traceback" not in refused.err
    predicted = space.rvbuild("predict", str(bundle), "data/c.tif", "-o", "out", "--allow-code")
    assert predicted.status == 0, predicted.err
    assert (space.root / "out/c/labels.tif").read_bytes() == (shown / "labels.tif").read_bytes()

    project = rvbuild.open(space.project, trust=True)
    image, valid = project.scenes["c"].read()
    with rasterio.open(shown / "labels.tif") as file:
        classes = file.read(1)
    for model in (project.model(), rvbuild.load_model(bundle, allow_code=True)):
        prediction = model.predict(image, valid)
        assert np.array_equal(prediction.class_ids, classes) and prediction.scores.shape == (2, 64, 64)
        with pytest.raises(rvbuild.ModelError, match=r'no torch module: the training backend "nearest:make"'):
            _ = model.module

    text = space.project.read_text()
    space.project.write_text(text.replace(TABLE, '[train]\nmodel = "unet"\npretrained = "other.zip"\n'))
    shutil.copy(bundle, space.root / "other.zip")
    started = space.rvbuild("train")
    assert started.status == 2 and "holds a model of the training backend nearest:make" in started.err


def test_cells_have_backends_and_boxes_have_none(space: Space) -> None:
    from .projects import BOXES
    from .projects import CELLS as PROJECT

    space.project.write_text(PROJECT)
    build(use(space, CELLS, '[train]\nbackend = "nearest:Brightest"\n'))
    assert rvbuild.open(space.project).evaluation().summary["overall"]["accuracy"] > 0.5
    assert len(space.read("predict/c/cells.json")["cells"]) == 25
    space.project.write_text(BOXES)
    refused = use(space, CELLS, '[train]\nbackend = "nearest:Brightest"\n').rvbuild("check")
    assert refused.status == 2 and "train.backend: object_detection has no training backends" in refused.err


def test_what_is_wrong_is_said_before_the_first_chip_is_cut(space: Space) -> None:
    use(space)
    for name, message in {
        "nearest:mak": 'mak does not exist in nearest; did you mean "make"?',
        "nearer:make": 'there is no module "nearer"',
        "nearest:np": "np is not callable in nearest",
        "nearest:NearestMean": "the factory failed: TypeError: NearestMean.__init__() missing",
    }.items():
        table = TABLE.replace("nearest:make", name).replace("{ softness = 20.0 }", "{ }")
        use(space, NEAREST, table)
        result = space.rvbuild("build")
        assert result.status == 2, result.out + result.err
        assert f'train.backend: "{name}": ' in result.err and message in result.err, result.err
        assert "Traceback" not in result.err and "built    " not in result.out
        space.project.write_text(space.project.read_text().replace(table, TABLE))


def test_a_backend_that_fails_later_is_said_with_its_line(space: Space) -> None:
    result = use(space, NEAREST.replace('chip["labels"]', 'chip["label"]')).rvbuild("build")
    line = 1 + NEAREST.splitlines().index(next(t for t in NEAREST.splitlines() if 'chip["labels"]' in t))
    assert result.status == 1 and "Traceback" not in result.out + result.err
    assert f"train.backend: \"nearest:make\": train() failed: KeyError: 'label' (nearest.py, line {line})" in result.out
    assert not (space.root / "cache/p/train").exists()


def test_refused_code_does_not_run(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_TRUST", "no")
    result = use(space, f"open({str(space.root / 'ran')!r}, 'w')\n" + NEAREST).rvbuild("build")
    assert result.status != 0 and "nearest.py" in result.err
    assert space.rvbuild("check").status == 0 and space.rvbuild("status").status == 0
    assert not (space.root / "ran").exists()


def test_a_description_cannot_choose_another_function(space: Space) -> None:
    build(use(space))
    description = space.root / "cache/p/train/model.json"
    content = json.loads(description.read_text())
    changed = space.root / "changed.json"
    changed.write_text(json.dumps({**content, "model": "os:system"}))
    from rvbuild.stages.predictor import load_predictor

    weights = space.root / "cache/p/train/model.safetensors"
    with pytest.raises(rvbuild.ModelError, match="does not come from this project"):
        load_predictor(weights, changed, trained={"model": content["model"], "model_args": content["model_args"]})
    changed.write_text(json.dumps({**content, "model": "unet"}))
    with pytest.raises(rvbuild.ModelError, match="backend: expected true"):
        load_predictor(weights, changed)


def test_chips_of_ones_own_are_learnt_too(tmp_path: Path) -> None:
    from .test_own_chips import PROJECT, write_chips

    (tmp_path / "projects").mkdir()
    write_chips(tmp_path, "semantic_segmentation")
    model = 'model = "unet"\nmodel_args = { width = 2, depth = 1 }\npretrained = false\nepochs = 1\nbatch_size = 4\n'
    text = PROJECT.format(task="semantic_segmentation", model="unet", args="{ width = 2, depth = 1 }")
    assert model in text
    (tmp_path / "projects/p.toml").write_text(text.replace(model, TABLE.partition("\n")[2] + "max_chips = 4\n"))
    space = Space(tmp_path)
    counts = "        assert (len(chips), len(validation)) == (4, 2)\n        sums = "
    (tmp_path / "nearest.py").write_text(NEAREST.replace("        sums = ", counts))
    assert {"chip:train", "chip:validation", "train", "bundle", "report"} <= build(space)
    assert build(space) == set()
