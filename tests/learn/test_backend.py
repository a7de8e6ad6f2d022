"""What a training backend may return, and what is said when it returns something else."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rvbuild.errors import ModelError
from rvbuild.learn.backend import BackendPredictor, ChipArrays, load_backend, make_backend, train_backend
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Silent
from tests.learn.chipmaker import CLASSES, NULL_ID, OPS, chip_arrays, write_chips

INFO = ModelInfo(
    task="semantic_segmentation", model="my_backend:make", model_args={}, bands=3, dtype="uint8",
    outputs=["car", "tree"], classes=CLASSES, null_id=NULL_ID, chip_px=16, normalize={}, backend=True,
)  # fmt: skip
HALVES = np.full((1, 2, 16, 16), 0.5)


class Given:
    """A backend that returns what it is given."""

    arrays: Any = {"a": np.zeros(3)}  # noqa: RUF012
    predict: Any = staticmethod(lambda images, valid: HALVES)

    def train(self, chips: ChipArrays, validation: ChipArrays | None, *, seed: int, progress: Silent) -> Any:
        return self.arrays

    def load(self, arrays: Any) -> Any:
        return self.predict


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    module = types.ModuleType("my_backend")
    monkeypatch.setitem(sys.modules, "my_backend", module)
    yield module


@pytest.fixture
def chips(tmp_path: Any) -> ChipArrays:
    images, labels = chip_arrays(7)
    valid = np.ones(images.shape, dtype=bool)
    valid[2, :, :4] = False
    files = write_chips(tmp_path, "a", images, labels, valid=valid)
    return ChipArrays(Chips({"chips/train/a": files}, OPS))


def offer(module: types.ModuleType, **members: Any) -> None:
    """Make the module's factory return a backend with these members."""
    backend = type("Backend", (Given,), members)
    module.make = lambda spec, **args: backend()  # type: ignore[attr-defined]


def test_chips_are_a_sequence_of_arrays(chips: ChipArrays) -> None:
    images, labels = chip_arrays(7)
    assert len(chips) == 7 and len(list(chips)) == 7
    assert np.array_equal(chips[-1]["image"], images[6]) and np.array_equal(chips[3]["labels"], labels[3])
    assert chips[0]["valid"].all() and not chips[2]["valid"][:, :4].any() and chips[2]["valid"][:, 4:].all()
    assert [np.array_equal(chip["image"], images[n]) for n, chip in zip((1, 3), chips[1:5:2], strict=True)] == [
        True
    ] * 2
    assert chips.class_counts.tolist() == np.bincount(labels.ravel(), minlength=3).tolist()
    with pytest.raises(IndexError, match="there are 7 chips; found the index 7"):
        chips[7]


def test_a_backend_learns_what_it_is_for(module: types.ModuleType, chips: ChipArrays) -> None:
    seen: list[Any] = []
    module.make = lambda spec, **args: seen.append((spec, args)) or Given()  # type: ignore[attr-defined, func-returns-value]
    train_backend(INFO, chips, None, 1, Silent())
    spec, _ = seen[0]
    assert (spec.task, spec.bands, spec.dtype, spec.chip_px) == ("semantic_segmentation", 3, "uint8", 16)
    assert (spec.outputs, spec.output_ids, spec.null_id) == (("car", "tree"), (0, 2), NULL_ID)
    assert len(seen) == 2, "another one predicts than has trained"


def test_arrays_of_any_order_are_stored_alike(module: types.ModuleType, chips: ChipArrays, tmp_path: Any) -> None:
    numbers = np.arange(6, dtype=">f4").reshape(2, 3)
    odd = {"z": np.array(3), "a": np.asfortranarray(numbers), "bytes": np.frombuffer(b"model", np.uint8)}
    offer(module, arrays=odd)
    arrays = train_backend(INFO, chips, None, 1, Silent())
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    plain = {"a": numbers.astype("<f4"), "bytes": odd["bytes"], "z": np.array(3)}
    safetensors.numpy.save_file(plain, tmp_path / "plain.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()

    received: dict[str, np.ndarray] = {}
    offer(module, load=lambda self, arrays: received.update(arrays) or Given.predict)
    load_backend(tmp_path / "model.safetensors", INFO)
    assert (
        received["bytes"].tobytes() == b"model"
        and received["z"].shape == ()
        and received["a"].tolist() == numbers.tolist()
    )


@pytest.mark.parametrize(
    "arrays, message",
    [
        (None, "train() must return arrays of numbers by name; found NoneType"),
        ([np.zeros(3)], "by name; found list"),
        ({1: np.zeros(3)}, "by name; found the name 1"),
        ({"a": [1, 2]}, "by name; 'a' is list"),
        ({"a": np.array(["x"])}, "by name; 'a' is an array of <U1"),
        ({"a": np.array([None])}, "by name; 'a' is an array of object"),
        ({"a": np.zeros(2, dtype=complex)}, "by name; 'a' is an array of complex128"),
    ],
)
def test_a_model_is_arrays(module: types.ModuleType, chips: ChipArrays, arrays: Any, message: str) -> None:
    offer(module, arrays=arrays)
    with pytest.raises(ModelError) as refused:
        train_backend(INFO, chips, None, 1, Silent())
    assert str(refused.value).startswith('train.backend: "my_backend:make": ') and message in str(refused.value)


@pytest.mark.parametrize(
    "scores, message",
    [
        (None, "an array of floats (N, K, H, W), here (1, 2, 16, 16); found NoneType"),
        (np.zeros((1, 3, 16, 16)), "found float64 (1, 3, 16, 16)"),
        (np.zeros((1, 2, 16, 16), dtype=np.uint8), "found uint8 (1, 2, 16, 16)"),
        (HALVES * np.nan, "probabilities, from 0 to 1; found values from nan to nan"),
        (HALVES * 3, "found values from 1.5 to 1.5"),
        (HALVES * -1, "found values from -0.5 to -0.5"),
    ],
)
def test_predictions_are_probabilities(module: types.ModuleType, chips: ChipArrays, scores: Any, message: str) -> None:
    offer(module, predict=staticmethod(lambda images, valid: scores))
    with pytest.raises(ModelError, match="predict") as refused:
        train_backend(INFO, chips, None, 1, Silent())
    assert message in str(refused.value)


def test_probabilities_of_chips_have_one_axis_less() -> None:
    info = ModelInfo(**{**INFO.__dict__, "task": "chip_classification"})
    scores = BackendPredictor(lambda images, valid: np.full((2, 2), 0.5), info)(
        np.zeros((2, 3, 16, 16), np.uint8), None
    )
    assert scores.shape == (2, 2) and scores.dtype == np.float32
    with pytest.raises(ModelError, match=r"\(N, K\), here \(2, 2\)"):
        BackendPredictor(lambda images, valid: np.zeros((2, 2, 16, 16)), info)(np.zeros((2, 3, 16, 16)), None)


def test_sums_of_float32_may_exceed_one_a_little() -> None:
    largest = np.nextafter(np.float32(1), np.float32(2))
    scores = BackendPredictor(lambda images, valid: np.full((1, 2, 16, 16), largest), INFO)(
        np.zeros((1, 3, 16, 16)), None
    )
    assert scores.max() == 1


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda spec: None,
            '"my_backend:make" returned NoneType; expected a backend, an object with the methods train',
        ),
        (lambda spec: Given, ""),
        (lambda spec: 1 / 0, '"my_backend:make": the factory failed: ZeroDivisionError: division by zero'),
        (lambda: Given(), "the factory failed: TypeError"),
        (lambda spec: types.SimpleNamespace(train=print), "and it has no load"),
    ],
)
def test_a_factory_returns_a_backend(module: types.ModuleType, make: Any, message: str) -> None:
    module.make = make  # type: ignore[attr-defined]
    if not message:
        make_backend(INFO)
        return
    with pytest.raises(ModelError) as refused:
        make_backend(INFO)
    assert message in str(refused.value)


def test_load_returns_a_function_and_may_fail(module: types.ModuleType, chips: ChipArrays, tmp_path: Any) -> None:
    offer(module, load=lambda self, arrays: arrays)
    with pytest.raises(ModelError, match=r"load\(\) must return a function predict\(images, valid\); found dict"):
        train_backend(INFO, chips, None, 1, Silent())
    offer(module, load=lambda self, arrays: arrays["b"])
    with pytest.raises(ModelError, match=r"load\(\) failed: KeyError: 'b'"):
        train_backend(INFO, chips, None, 1, Silent())
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_backend(tmp_path / "model.safetensors", INFO)


def test_the_seed_is_that_of_the_training_and_leaves_no_trace(module: types.ModuleType, chips: ChipArrays) -> None:
    offer(module, train=lambda self, chips, validation, *, seed, progress: {"drawn": np.random.rand(3)})
    before = np.random.get_state()[1].tolist()
    first, second, other = (train_backend(INFO, chips, None, seed, Silent())["drawn"] for seed in (1, 1, 2))
    assert first.tolist() == second.tolist() != other.tolist()
    assert np.random.get_state()[1].tolist() == before
