"""Bundles verified: the self-test with each engine, and failures that say what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from rvbuild.errors import DataError, ModelError
from rvbuild.progress import Silent
from rvbuild.stages.bundle import verify
from rvbuild.stages.bundle.verify import verify_bundle
from rvbuild.stages.engines.exported import is_installed
from tests.stages.sample_bundles import CODE, contents, pack, rewrite, with_code
from tests.stages.test_without_torch import make_bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_every_engine_passes(bundle: Path) -> None:
    first, *tests = verify_bundle(bundle, Silent())
    assert first == f"{bundle}: the 8 members are those of the manifest"
    expected = safetensors.numpy.load(contents(bundle)["selftest.safetensors"])["expected.classes"]
    count = np.count_nonzero(expected != 255)
    assert count > 200
    installed = [engine for engine in ("torch", "onnxruntime", "openvino") if is_installed(engine)]
    assert [line for line in tests if "left out" not in line] == [
        f"the self-test passes with {engine}: all {count} classes are the expected ones" for engine in installed
    ]


def test_other_classes_fail_with_their_number(bundle: Path) -> None:
    members = contents(bundle)
    tensors = safetensors.numpy.load(members["selftest.safetensors"])
    sure = tensors["expected.classes"] != 255
    row, col = np.argwhere(sure[0])[0]
    tensors["expected.classes"][0, row, col] ^= 1
    path = rewrite(bundle, {**members, "selftest.safetensors": safetensors.numpy.save(tensors)})
    with pytest.raises(
        DataError, match=rf"the self-test fails with torch: 1 of {sure.sum()} classes are not the expected"
    ):
        verify_bundle(path, Silent())


@pytest.mark.parametrize("task", ["object_detection", "chip_classification"])
def test_a_model_that_is_sure_of_nothing_is_tested_by_its_scores(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rvbuild.tasks.detection.candidates._SURE_SCORE", 2.0)
    monkeypatch.setattr("rvbuild.tasks.portable._MARGIN", 2.0)
    path = make_bundle(tmp_path, task)
    members = contents(path)
    tensors = safetensors.numpy.load(members["selftest.safetensors"])
    assert tensors["scores"].size >= 16 and tensors["scores"].std() > 0
    lines = [line for line in verify_bundle(path, Silent())[1:] if "left out" not in line]
    assert len(lines) >= 2
    for line in lines:
        assert f"all {tensors['scores'].size} scores are the expected ones; the model was not sure of any" in line
    tensors["scores"].flat[3] += 0.01
    tensors["scores"].flat[7] = np.nan
    path = rewrite(path, {**members, "selftest.safetensors": safetensors.numpy.save(tensors)})
    with pytest.raises(DataError, match=rf"with torch: 2 of {tensors['scores'].size} scores are not the expected ones"):
        verify_bundle(path, Silent())
    tensors["tolerance"] = np.array([0.1])
    path = rewrite(path, {**members, "selftest.safetensors": safetensors.numpy.save(tensors)})
    with pytest.raises(DataError, match=rf"with torch: 1 of {tensors['scores'].size} scores are not the expected ones"):
        verify_bundle(path, Silent())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": np.zeros((1, 4, 16, 16), np.uint8)},
            r"expected images \(3, 16, 16\) of uint8, found \(1, 4, 16, 16\)",
        ),
        ({"expected.classes": np.zeros((1, 9, 9), np.uint8)}, r"cannot be compared with a prediction"),
        ({"images": np.zeros((1, 3, 16, 16), np.uint16)}, r"of uint16"),
    ],
)
def test_a_self_test_of_strangers(bundle: Path, change: dict[str, np.ndarray], message: str) -> None:
    members = contents(bundle)
    tensors = safetensors.numpy.load(members["selftest.safetensors"]) | change
    path = rewrite(bundle, {**members, "selftest.safetensors": safetensors.numpy.save(tensors)})
    with pytest.raises(DataError, match=message):
        verify_bundle(path, Silent())
    path = rewrite(bundle, {**members, "selftest.safetensors": b"nothing"})
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        verify_bundle(path, Silent())


def test_a_damaged_bundle_fails_before_its_test(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(bytes(content))
    with pytest.raises(DataError):
        verify_bundle(bundle, Silent())


def test_what_cannot_be_tested_is_named(packed: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_bundle(packed, Silent())[1] == "it has no self-test: bundles with onnx = true in [bundle] have one"
    monkeypatch.setattr(verify, "has_torch", lambda: False)
    lines = verify_bundle(bundle, Silent())
    assert "torch is left out: it is not installed" in lines and "passes with onnxruntime" in "\n".join(lines)
    monkeypatch.setattr(verify, "is_installed", lambda engine: False)
    with pytest.raises(ModelError, match=r"nothing here can run the model: torch is left out: .*openvino is left out"):
        verify_bundle(bundle, Silent())


def test_code_of_the_bundle_only_runs_if_allowed(tmp_path: Path) -> None:
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": CODE}), onnx=True)
    assert "torch is left out: the model needs Python code" in "\n".join(verify_bundle(path, Silent()))
    assert "passes with torch" in "\n".join(verify_bundle(path, Silent(), allow_code=True))
