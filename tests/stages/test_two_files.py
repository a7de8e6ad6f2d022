"""Networks whose weights one ONNX file cannot hold: a second file in bundles, builds and model repositories.

The limit, 2 GiB, is lowered here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
from safetensors.torch import load_file, save_file

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.export import graph
from rvbuild.progress import Silent
from rvbuild.stages import export, infer
from rvbuild.stages.bundle.hub.folder import as_bundle
from rvbuild.stages.bundle.verify import verify_bundle
from rvbuild.stages.engines.exported import is_installed
from rvbuild.stages.names import EXPORTED_ENGINES
from tests.stages.sample_bundles import MEMBERS, contents, pack, predict_images, refuse, rewrite
from tests.stages.sample_scenes import empty, image_array, predict_settings, write_model, write_raster
from tests.stages.test_hub import write as write_repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

ENGINES = [engine for engine in EXPORTED_ENGINES if is_installed(engine)]
FILES = ["model.onnx", "model.onnx.data"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose network has two files, made once."""
    folder = tmp_path_factory.mktemp("two_files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "MOST_BYTES", 1000)
        return pack(folder, write_model(folder / "model"), onnx=True)


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MOST_BYTES", 1000)


def labels(folder: Path) -> np.ndarray:
    with rasterio.open(folder / "scene" / "labels.tif") as file:
        classes: np.ndarray = file.read(1)
        return classes


def test_a_bundle_has_both_files_and_describes_them(made: Path) -> None:
    members = contents(made)
    extras = ["README.md", *FILES, "model.stac.json", "selftest.safetensors"]
    assert sorted(members) == sorted([*MEMBERS, *extras])
    model = onnx.load_model_from_string(members["model.onnx"])
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert outside and {entry.value for t in outside for entry in t.external_data if entry.key == "location"} == {
        "model.onnx.data"
    }
    digest = hashlib.sha256(members["model.onnx.data"]).hexdigest()
    about = {entry.key: entry.value for entry in model.metadata_props}["rvbuild"]
    assert json.loads(about)["weights_sha256"] == digest
    assets = json.loads(members["model.stac.json"])["assets"]
    assert assets["model"]["roles"] == ["mlm:model"] and assets["weights"]["roles"] == ["mlm:weights"]
    assert assets["weights"]["file:checksum"] == f"1220{digest}"
    assert assets["weights"]["file:size"] == len(members["model.onnx.data"])
    assert "Programs that take a single file cannot load it" in members["README.md"].decode()


def test_equal_inputs_give_equal_bytes(made: Path, tmp_path: Path, low: None) -> None:
    again = pack(tmp_path, write_model(tmp_path / "model"), onnx=True)
    assert again.read_bytes() == made.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["bundle.zip"]


def test_every_engine_predicts_and_verifies_it(made: Path, tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.tif", image_array(70, 90))
    predict_images(made, [scene], tmp_path / "torch", engine="torch")
    expected = labels(tmp_path / "torch")
    assert len(np.unique(expected)) == 2
    for engine in ENGINES:
        predict_images(made, [scene], tmp_path / engine, engine=engine)
        np.testing.assert_array_equal(labels(tmp_path / engine), expected)
    lines = "\n".join(verify_bundle(made, Silent()))
    assert all(f"the self-test passes with {engine}" in lines for engine in ENGINES)


def test_a_repository_has_both_files_and_is_read_back(made: Path, tmp_path: Path) -> None:
    names = write_repository(made, tmp_path / "hub")
    assert set(FILES) < set(names) == {path.name for path in (tmp_path / "hub").iterdir()}
    assert "model.onnx.data" in (tmp_path / "hub/README.md").read_text()
    with as_bundle(tmp_path / "hub") as bundle:
        assert {name: contents(bundle)[name] for name in FILES} == {name: contents(made)[name] for name in FILES}
        verify_bundle(bundle, Silent())
    (tmp_path / "hub/model.onnx.data").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"model\.onnx\.data: is damaged"), as_bundle(tmp_path / "hub"):
        pass


def test_a_bundle_without_its_second_file_says_so(made: Path, tmp_path: Path) -> None:
    members = contents(made)
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "p.zip"
    copy.write_bytes(made.read_bytes())
    del members["model.onnx.data"]
    path = rewrite(copy, members)
    scene = write_raster(tmp_path / "scene.tif", image_array(20, 20))
    for engine in ENGINES:
        with pytest.raises(ModelError, match=rf"model\.onnx: {engine} cannot open it: .*"):
            predict_images(path, [scene], tmp_path / "out", engine=engine)
    spoiled = {**contents(made), "model.onnx.data": contents(made)["model.onnx.data"][:-4] + b"\0\0\0\1"}
    refuse(rewrite(copy, spoiled, manifest=False), tmp_path / "into", "does not match manifest.json")


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_outside_of_a_bundle_is_read(engine: Any, made: Path, tmp_path: Path) -> None:
    """A network of strangers may name other files as its weights."""
    members = contents(made)
    copy = tmp_path / "p.zip"
    copy.write_bytes(made.read_bytes())
    secret = tmp_path / "secret"
    secret.write_bytes(members["model.onnx.data"])
    scene = write_raster(tmp_path / "scene.tif", image_array(20, 20))
    up = "/".join([".."] * 20)
    for location in (str(secret), f"{up}{secret}"):
        model = onnx.load_model_from_string(members["model.onnx"])
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path = rewrite(copy, {**members, "model.onnx": model.SerializeToString()})
        with pytest.raises(ModelError, match=f"{engine} cannot open it"):
            predict_images(path, [scene], tmp_path / "out", engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_stages_of_a_build_export_and_predict_it(engine: Any, made: Path, tmp_path: Path, low: None) -> None:
    weights, description = write_model(tmp_path / "model")
    stats = made.parents[1] / "stats.json"
    model = {"model": [weights, description], "stats": [stats]}
    export.run(model, {"engine": engine}, empty(tmp_path / "export"), Silent())
    network = sorted((tmp_path / "export").iterdir())
    assert [path.name for path in network] == FILES
    settings: Any = {**predict_settings(), "task": "semantic_segmentation"}
    scene = write_raster(tmp_path / "scene.tif", image_array(70, 90))
    image = {"image": [scene], "model": [weights, description]}
    infer.run(image, settings, empty(tmp_path / "torch"), Silent())
    infer.run({**image, "network": network[::-1]}, {**settings, "engine": engine}, empty(tmp_path / "out"), Silent())
    raw = [tmp_path / name / "raw_labels.tif" for name in ("torch", "out")]
    of_torch, of_engine = (rasterio.open(path).read(1) for path in raw)
    np.testing.assert_array_equal(of_torch, of_engine)
    # Other weights are another network: its first file has the same tensors, and yet other bytes.
    tensors = load_file(weights)
    save_file({name: value + 0.001 if value.ndim == 4 else value for name, value in tensors.items()}, weights)
    export.run(model, {"engine": engine}, empty(tmp_path / "other"), Silent())
    assert (tmp_path / "other/model.onnx").read_bytes() != network[0].read_bytes()


def test_without_torch(made: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.abc, sys\n"
        "class Blocker(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'torchvision', 'onnx', 'onnxscript', 'onnx_ir'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "import rvbuild\n"
        "rvbuild.load_model(sys.argv[1], engine='onnxruntime').predict([sys.argv[2]], out=sys.argv[3])\n"
    )
    scene = write_raster(tmp_path / "scene.tif", image_array(70, 90))
    words = [str(made), str(scene), str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(np.unique(labels(tmp_path / "out"))) == 2
