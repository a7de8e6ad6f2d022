"""A bundle verified: its members, and whether every engine here predicts what the self-test expects."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from rvbuild import tasks
from rvbuild.errors import DataError, ModelError
from rvbuild.learn.model_files import DESCRIPTION, ONNX, WEIGHTS, ModelInfo, read_info
from rvbuild.progress import Progress
from rvbuild.stages.bundle.predict import open_bundle
from rvbuild.stages.engines.exported import is_installed
from rvbuild.stages.engines.fits import misfit
from rvbuild.stages.names import EXPORTED_ENGINES, Engine
from rvbuild.stages.predictor import Predictor, WithOutput, has_torch, load_predictor
from rvbuild.tasks.portable import LARGEST_DIFFERENCE, SCORES, TOLERANCE

SELFTEST = "selftest.safetensors"

_EXPECTED = "expected."


def verify_bundle(bundle_path: Path, progress: Progress, *, allow_code: bool = False) -> list[str]:
    """Verify a bundle with all engines that are installed.

    Parameters
    ----------
    bundle_path
        The zip.
    progress
        Receives the engines.
    allow_code
        Whether Python code in the bundle may run: torch needs it for models of the author's own.

    Returns
    -------
    list of str
        What was verified, a line each.

    Raises
    ------
    DataError
        The bundle is damaged, is not signed although the environment has a key, or gives other classes than the
        self-test expects.
    ModelError
        No engine can load the model.
    """
    with tempfile.TemporaryDirectory(prefix="rvbuild-bundle-") as name:
        into = Path(name)
        open_bundle(bundle_path, into)
        members = sum(path.is_file() for path in into.rglob("*"))
        lines = [f"{bundle_path}: the {members} members are those of the manifest"]
        if not (into / SELFTEST).is_file():
            return [*lines, "it has no self-test: bundles with onnx = true in [bundle] have one"]
        info = read_info(into / DESCRIPTION)
        test = _read(into / SELFTEST, info, f"{bundle_path}: {SELFTEST}")
        engines, left_out = _engines(into, info, allow_code)
        lines += left_out
        if not engines:
            raise ModelError(f"{bundle_path}: nothing here can run the model: {'; '.join(left_out)}")
        progress.start("self-test", len(engines), "engines")
        for engine in engines:
            predictor = load_predictor(
                into / WEIGHTS,
                into / DESCRIPTION,
                "cpu",
                run_embedded_code=allow_code,
                engine=engine,
                where=str(bundle_path),
            )
            lines.append(_tested(predictor, engine, test, bundle_path))
            progress.advance()
    return lines


def _engines(into: Path, info: ModelInfo, allow_code: bool) -> tuple[list[Engine], list[str]]:
    """Return the engines to test, and a line for each that is left out."""
    engines: list[Engine] = []
    left_out = []
    if not has_torch():
        left_out.append("torch is left out: it is not installed")
    elif (":" in info.model or info.code) and not allow_code:
        left_out.append("torch is left out: the model needs Python code of the bundle, which --allow-code allows")
    else:
        engines.append("torch")
    for engine in EXPORTED_ENGINES:
        if not (into / ONNX).is_file():
            left_out.append(f"{engine} is left out: there is no {ONNX}")
        elif not is_installed(engine):
            left_out.append(f"{engine} is left out: it is not installed")
        elif reason := misfit(engine, info.dtype):
            left_out.append(f"{engine} is left out: {reason}")
        else:
            engines.append(engine)
    return engines, left_out


class _Test(NamedTuple):
    """A self-test."""

    images: np.ndarray
    expected: Mapping[str, np.ndarray]
    """What the task expects of the predictions."""
    scores: np.ndarray | None
    """Scores of the output, of a model that is sure of nothing."""
    tolerance: float
    """By how much these may differ."""


def _read(path: Path, info: ModelInfo, where: str) -> _Test:
    """Return a self-test."""
    try:
        tensors = safetensors.numpy.load_file(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DataError(f"{where}: cannot be read as safetensors: {error}") from error
    images = tensors.pop("images", np.empty(0))
    shape = (info.bands, info.chip_px, info.chip_px)
    if images.dtype.name != info.dtype or images.shape[1:] != shape or not len(images):
        raise DataError(f"{where}: expected images {shape} of {info.dtype}, found {images.shape} of {images.dtype}")
    scores = tensors.pop(SCORES, None)
    tolerance = float(tensors.pop(TOLERANCE, np.empty(0)).max(initial=LARGEST_DIFFERENCE))
    expected = {name.removeprefix(_EXPECTED): value for name, value in tensors.items()}
    return _Test(images, expected, scores, tolerance)


def _tested(predictor: Predictor, engine: Engine, test: _Test, bundle: Path) -> str:
    """Return what a test with an engine has compared."""
    portable = tasks.get(predictor.info.task).PORTABLE
    what, note = "classes", ""
    try:
        with predictor.computing():
            wrong, count = portable.misses(predictor(test.images, None), test.expected)
            if test.scores is not None and isinstance(predictor, WithOutput):
                output = predictor.output(test.images, None)
                scores = portable.scores(output, len(predictor.info.outputs))
                # What is not a number is not near.
                wrong = int(np.count_nonzero(~(np.abs(scores - test.scores) <= test.tolerance)))
                count, what, note = scores.size, "scores", "; the model was not sure of any class when it was packed"
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DataError(f"{bundle}: {SELFTEST}: cannot be compared with a prediction: {error!r:.200}") from error
    if wrong:
        raise DataError(
            f"{bundle}: the self-test fails with {engine}: {wrong} of {count} {what} are not the expected ones. The "
            f"model does not predict here as it did where it was packed: try other versions of {engine}"
        )
    if not count:
        return f"the self-test runs with {engine}, but the model was not sure of any class when it was packed"
    return f"the self-test passes with {engine}: all {count} {what} are the expected ones{note}"
