"""A model tried out before work: what would fail only once all chips are cut."""

from __future__ import annotations

import http.server
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch

from rvbuild.checks import model as checked
from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Silent
from rvbuild.stages.bundle import write as bundle
from tests.learn.chipmaker import CLASSES
from tests.stages.sample_scenes import predict_settings


def problem(model: str = "unet", task: str = "semantic_segmentation", **changes: Any) -> str:
    options = {
        "args": {},
        "bands": 3,
        "outputs": 2,
        "chip_px": 32,
        "start": "random",
        "path": None,
        "member": None,
        "normalize": "auto",
        "dtype": "uint8",
        "of_encoder": False,
        "download": False,
    }
    text, certain = checked.try_out(task, model, **{**options, **changes}, progress=Silent())
    assert certain or not changes.get("download")
    return text


def test_good_models() -> None:
    assert problem(args={"width": 2, "depth": 1}) == ""
    assert problem("resnet18", "chip_classification") == ""
    assert problem(args={"width": 2, "depth": 1}, bands=0) == ""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["retinanet_resnet18_fpn", "fcos_resnet18_fpn", "fasterrcnn_resnet18_fpn"])
def test_one_class_is_enough_for_a_detector(model: str) -> None:
    assert problem(model, "object_detection", args={"fpn_channels": 8}, outputs=1, chip_px=64) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"args": {"widht": 2}}, 'train.model_args: model "unet" has no argument "widht"; did you mean "width"?'),
        ({"model": "unett"}, 'train.model: there is no model "unett"'),
        (
            {"model": "alexnet", "task": "chip_classification", "chip_px": 20},
            'train.model: "alexnet" cannot take chips of 20 px and 3 bands',
        ),
    ],
)
def test_what_a_model_does_not_take(changes: Any, expected: str) -> None:
    assert problem(**changes).startswith(expected)


def test_large_chips_are_tried_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []

    class Spy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sides.append(images.shape[-1])
            if images.shape[-1] % 32:
                raise RuntimeError("sides must be multiples of 32\nand more")
            return images[:, :2]

    monkeypatch.setattr(checked.models, "build", lambda *_, **__: Spy())
    assert problem(chip_px=1024) == ""
    assert set(sides) == {128}
    sides.clear()
    assert problem(chip_px=1010).endswith(
        "3 bands (sides must be multiples of 32). Choose another chip.size_px, or another model"
    )
    assert set(sides) == {242, 1010}


def test_files_to_start_from(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    args = {"width": 2, "depth": 1}
    assert "cannot be read as weights" in problem(args=args, start="file", path=str(path))
    safetensors.torch.save_file({"other": torch.zeros(1)}, path)
    assert "holds no tensor of this model" in problem(args=args, start="file", path=str(path))
    assert "weights.safetensors" in problem(args=args, start="bundle", path=str(path))


@pytest.fixture
def server() -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if "there" in self.path else 404)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = [f"{server}/gone-12345678.pth"]
    monkeypatch.setattr(checked, "weights_of", lambda _: SimpleNamespace(url=url[0]))
    options: Any = {"args": {"width": 2, "depth": 1}, "start": "torchvision"}
    for download in (False, True):
        message = problem(**options, download=download)
        assert message.startswith(f"train.pretrained: the weights {url[0]} could not be downloaded (HTTP Error 404")
        assert str(tmp_path / "hub/checkpoints/gone-12345678.pth") in message
    url[0] = f"{server}/there-12345678.pth"
    assert problem(**options) == ""
    # What torch has is not asked for.
    kept = tmp_path / "hub/checkpoints/gone-12345678.pth"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"")
    url[0] = f"{server}/gone-12345678.pth"
    assert problem(**options) == ""


ARGS = {"width": 2, "depth": 1}


def bundle_of(folder: Path, **changes: Any) -> str:
    """Return the path of a bundle whose model is a unet of 3 bands and 2 outputs, or another."""
    info = ModelInfo(
        task="semantic_segmentation",
        model="unet",
        model_args=ARGS,
        bands=3,
        dtype="uint8",
        outputs=["car", "tree"],
        classes=CLASSES,
        null_id=1,
        chip_px=16,
        normalize={"kind": "scale", "max": 255},
    )
    info = replace(info, **changes)
    made = models.build(info.task, info.model, bands=info.bands, outputs=2, args=info.model_args)
    folder.mkdir()
    save_model(folder, made.state_dict(), info)
    (folder / "stats.json").write_text("{}")
    files = {"model": [folder / "model.safetensors", folder / "model.json"], "stats": [folder / "stats.json"]}
    settings = {**predict_settings(), "classes": CLASSES, "null_id": 1, "chip_px": 16}
    bundle.run({**files, "code": []}, settings, folder, Silent())
    return str(folder / "bundle.zip")


def test_bundles_to_start_from(tmp_path: Path) -> None:
    path = bundle_of(tmp_path / "three")
    options: Any = {"start": "bundle", "path": path, "args": ARGS}
    assert problem(**options) == ""
    assert problem(**options, outputs=5) == ""  # the last layer starts anew
    assert problem(**options, bands=4) == ""
    assert problem(**options, bands=0, dtype=None, normalize="pretrained") == ""
    assert problem(**options, normalize="pretrained") == ""
    assert problem("lraspp_mobilenet_v3_large", **{**options, "args": {}}).startswith(
        f'train.pretrained: {path} holds the weights of "unet" {{ depth = 1, width = 2 }}, none of which has the name '
        'and the shape of one of "lraspp_mobilenet_v3_large"; choose that model'
    )
    for other in ({"bands": 4}, {"dtype": "uint16"}):
        assert problem(**options, normalize="pretrained", **other).startswith(
            f'train.normalize: "pretrained" normalises like {path}, which was trained on 3 bands of uint8; '
        )


def test_what_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    options: Any = {"start": "bundle", "path": str(path), "args": ARGS}
    path.write_bytes(b"PK")
    assert problem(**options).startswith(f"train.pretrained: {path}: cannot be read as a bundle")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "")
    assert problem(**options).startswith(f"train.pretrained: {path}: is not a bundle of rvbuild")


def test_figures_of_other_bands() -> None:
    two = {"mean": [0.5, 0.5], "std": [0.2, 0.2]}
    assert problem(args=ARGS, normalize=two).startswith("train.normalize: expected values for the 3 bands")
    assert problem(args=ARGS, normalize=two, bands=2) == ""
    assert problem(args=ARGS, normalize=two, bands=0, dtype=None) == ""
