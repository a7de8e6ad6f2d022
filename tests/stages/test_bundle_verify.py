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
