"""Training backends: code of the user that trains and predicts in the place of torch, which is not imported here.

A backend turns chips into arrays, and arrays into a function that predicts. rvbuild keeps the arrays, so that a model
of a backend is stored, restored, bundled and compared like any other.
"""

from __future__ import annotations

import contextlib
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import safetensors.numpy

from rvbuild.errors import ModelError, RvbuildError
from rvbuild.language.user_code import load_object
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Progress
from rvbuild.project.tasks import SPECS

KEY = "train.backend"

Arrays = Mapping[str, np.ndarray]
"""A trained model: arrays of numbers by name."""

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`predict(images, valid)`, both (N, C, H, W): raw values, and where there are data. Returns the probability of each
output, from 0 to 1: (N, K, H, W) for segmentation, (N, K) for chip classification."""


@dataclass(frozen=True)
class ModelSpec:
    """What a model takes and gives.

    Attributes
    ----------
    task : str
    bands : int
        C, the bands of an image.
    dtype : str
        Of the raw values, for example `uint8`.
    outputs : tuple of str
        The K classes that are predicted, in the order of scores: all but null.
    output_ids : tuple of int
        The id that each of them has in the targets of chips.
    null_id : int
        The id of what nothing is to be learnt from.
    chip_px : int
        H and W of a chip.
    """

    task: str
    bands: int
    dtype: str
    outputs: tuple[str, ...]
    output_ids: tuple[int, ...]
    null_id: int
    chip_px: int


class ChipArrays(Sequence[dict[str, np.ndarray]]):
    """Chips as arrays: the sequence that a backend is given. Each is read when it is asked for.

    A chip is a dict: `image`, (C, H, W) raw values; `valid`, (C, H, W) bool; and the target: for segmentation `labels`,
    (H, W) uint8 class ids; for chip classification `classes`, (), a class id. The arrays may be read-only.

    Attributes
    ----------
    class_counts : numpy.ndarray
        (n_classes,) int64, how often each class id is in all of the chips: pixels, or chips.
    """

    def __init__(self, chips: Chips) -> None:
        self._chips = chips
        self.class_counts = chips.class_counts

    def __len__(self) -> int:
        return self._chips.count

    @overload
    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, np.ndarray]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
        """Return one chip, or a list of them."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} chips; found the index {index}")
        sample = self._chips[index % len(self)]
        valid = np.ones(sample.image.shape, dtype=bool) if sample.valid is None else sample.valid
        return {"image": sample.image, "valid": valid, **sample.target}


class Backend(Protocol):
    """What a factory returns that `train.backend` names: it is called as `factory(spec, **backend_args)`."""

    def train(
        self, chips: ChipArrays, validation: ChipArrays | None, *, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Train a model.

        Parameters
        ----------
        chips
            The training chips, at least one.
        validation
            The validation chips; None if there are none, or if `train.validation` is false.
        seed
            Follows from the project's seed; the generators of numpy and Python are seeded with it.
        progress
            Is told how far the training is: `start("epoch 1/5", len(chips), "chips")`, `advance()`, `note("a line")`.

        Returns
        -------
        mapping of str to numpy.ndarray
            The model as arrays of numbers. The same chips and arguments must give the same arrays. Whatever else a
            model is goes into an array of its bytes: `numpy.frombuffer(data, numpy.uint8)`.
        """

    def load(self, arrays: Mapping[str, np.ndarray]) -> Predict:
        """Return what predicts with a trained model.

        Parameters
        ----------
        arrays
            What `train` has returned, perhaps in another process on another machine.

        Returns
        -------
        callable
            `predict(images, valid)`: both (N, C, H, W), raw values and where there are data. It returns the probability
            of each output, from 0 to 1: (N, K, H, W) for segmentation, (N, K) for chip classification. It must not
            depend on which chips come together.
        """


class BackendPredictor:
    """A model of a backend that predicts batches of chips; see `rvbuild.stages.predictor.Predictor`."""

    def __init__(self, predict: Predict, info: ModelInfo) -> None:
        self.info = info
        self.on_cpu = False  # it chooses its device itself
        self._predict = predict
        self._axes = SPECS[info.task].scores

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Return a context with fixed seeds."""
        with seeded(0):
            yield

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Predict one batch.

        Raises
        ------
        ModelError
            The backend fails, or returns something else than probabilities.
        """
        valid = np.ones(images.shape, dtype=bool) if valid is None else valid
        with calling(self.info.model, "predict"):
            scores = self._predict(images, valid)
        sizes = {"K": len(self.info.outputs), "H": images.shape[2], "W": images.shape[3]}
        expected = (len(images), *(sizes[axis] for axis in self._axes))
        where = f'{KEY}: "{self.info.model}": predict() must return'
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or scores.shape != expected:
            found = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
            axes = ", ".join(("N", *self._axes))
            raise ModelError(f"{where} an array of floats ({axes}), here {expected}; found {found}")
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1 + _ROUNDING):  # nan is neither
            raise ModelError(f"{where} probabilities, from 0 to 1; found values from {scores.min()} to {scores.max()}")
        return np.minimum(scores, 1).astype(np.float32, copy=False)


_ROUNDING = 1e-5
"""By how much a probability may exceed 1: quotients of float32 do."""


def make_backend(info: ModelInfo, code: Mapping[str, str] | None = None) -> Backend:
    """Call the factory of a backend.

    Parameters
    ----------
    info
        The description of the model; `model` names the factory, `model_args` are its arguments.
    code
        Source code of the user's modules, to execute instead of importing them.

    Raises
    ------
    ModelError
        The factory does not exist, fails, or returns no backend.
    """
    factory = load_object(info.model, KEY, code)
    spec = ModelSpec(
        task=info.task,
        bands=info.bands,
        dtype=info.dtype,
        outputs=tuple(info.outputs),
        output_ids=tuple(info.output_ids),
        null_id=info.null_id,
        chip_px=info.chip_px,
    )
    with calling(info.model, "the factory"):
        backend: Backend = factory(spec, **info.model_args)
    lacking = [name for name in ("train", "load") if not callable(getattr(backend, name, None))]
    if lacking:
        raise ModelError(
            f'{KEY}: "{info.model}" returned {type(backend).__name__}; expected a backend, an object with the methods '
            f"train and load, and it has no {' and no '.join(lacking)}"
        )
    return backend


def load_backend(weights: Path, info: ModelInfo, code: Mapping[str, str] | None = None) -> BackendPredictor:
    """Load a trained model of a backend, ready to predict.

    Raises
    ------
    ModelError
        The weights are damaged, or the backend cannot be made or does not take them.
    """
    try:
        arrays = safetensors.numpy.load_file(weights)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights}: cannot be read as safetensors: {error}") from error
    return predictor_of(arrays, info, code)


def predictor_of(arrays: Arrays, info: ModelInfo, code: Mapping[str, str] | None = None) -> BackendPredictor:
    """Return what predicts with the arrays of a trained model, made by a backend that has not trained it."""
    backend = make_backend(info, code)
    with calling(info.model, "load"):
        predict = backend.load(arrays)
    if not callable(predict):
        raise ModelError(
            f'{KEY}: "{info.model}": load() must return a function predict(images, valid); found '
            f"{type(predict).__name__}"
        )
    return BackendPredictor(predict, info)


def train_backend(
    info: ModelInfo, chips: ChipArrays, validation: ChipArrays | None, seed: int, progress: Progress
) -> dict[str, np.ndarray]:
    """Train a model, and try whether it predicts a chip.

    Raises
    ------
    ModelError
        The backend fails, or returns something else than arrays and probabilities.
    """
    backend = make_backend(info)
    with seeded(seed), calling(info.model, "train"):
        result = backend.train(chips, validation, seed=seed, progress=progress)
    arrays = _checked(result, info.model)
    predictor = predictor_of(arrays, info)
    first = chips[0]
    with predictor.computing():
        predictor(np.array(first["image"])[None], np.array(first["valid"])[None])
    return arrays


def _checked(result: Any, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a model as they are stored."""
    where = f'{KEY}: "{name}": train() must return arrays of numbers by name'
    if not isinstance(result, Mapping):
        raise ModelError(f"{where}; found {type(result).__name__}")
    arrays = {}
    for key, value in result.items():
        if not isinstance(key, str) or not key:
            raise ModelError(f"{where}; found the name {key!r:.80}")
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or value.dtype.itemsize > _WIDEST:
            found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            raise ModelError(f"{where}; {key!r:.80} is {found}")
        # In the order of the axes and of the machine: what is stored depends on the values alone.
        arrays[key] = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")).reshape(value.shape)
    return arrays


_WIDEST = 8
"""Bytes of a number at most."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with seeded generators of numpy and Python; they are as before afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextlib.contextmanager
def calling(name: str, part: str) -> Iterator[None]:
    """Turn what the code of a backend raises into a message with the line that raised it."""
    try:
        yield
    except (RvbuildError, MemoryError):
        raise
    except Exception as error:
        call = part if part.startswith("the ") else f"{part}()"
        raise ModelError(
            f'{KEY}: "{name}": {call} failed: {type(error).__name__}: {error}{_line_of(error, name)}'
        ) from error


def _line_of(error: Exception, name: str) -> str:
    """Return the last line of the backend's module that led to an error, in words; empty if none did."""
    module = sys.modules.get(name.partition(":")[0])
    file = getattr(module, "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""
