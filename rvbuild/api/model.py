"""A trained model that predicts: arrays to arrays, or files to files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, overload

import numpy as np

from rvbuild import rules
from rvbuild.errors import DataError, ModelError, UsageError
from rvbuild.files.address import is_url
from rvbuild.files.urls import Url
from rvbuild.process import variables
from rvbuild.progress import Progress, Silent
from rvbuild.session.process_context import ProcessContext
from rvbuild.stages.names import Engine

if TYPE_CHECKING:
    from torch import nn

    from rvbuild.stages.bundle.predict import Settings
    from rvbuild.stages.predictor import Predictor

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Prediction:
    """The prediction of an image in memory.

    Attributes
    ----------
    class_ids : numpy.ndarray
        uint8 class ids. Segmentation: (H, W), 255 where nothing is predicted. Chip classification: (rows, columns) of
        cells, 255 likewise. Detection: (n,), of each box.
    scores : numpy.ndarray or None
        float32. Segmentation: (K, H, W), the probability of each of `Model.outputs`, NaN where nothing is predicted;
        None if they were not requested. Chip classification: (K, rows, columns), likewise. Detection: (n,), one for
        each box.
    boxes : numpy.ndarray or None
        Detection: (n, 4) float64 x0, y0, x1, y1 in pixels of the image; None for other tasks.
    cell_px : int or None
        Chip classification: the side of a cell in pixels, the first at pixel (0, 0); None for other tasks.
    """

    class_ids: np.ndarray
    scores: np.ndarray | None = None
    boxes: np.ndarray | None = None
    cell_px: int | None = None


class Model:
    """A trained model with everything that is needed to predict. `load_model` and `Project.model` return one.

    Attributes
    ----------
    task : str
    classes : tuple of str
        The name of each class id.
    outputs : tuple of str
        The classes that the model predicts, in the order of scores: all except null.
    bands : int
    dtype : str
        The dtype of the imagery that it was trained on.

    Examples
    --------
    >>> import rvbuild
    >>> project = rvbuild.open("projects/p.toml")
    >>> model = project.model()
    >>> model.outputs, model.bands, model.dtype
    (('building', 'ground'), 3, 'uint8')
    >>> image, valid = project.scenes["c"].read()
    >>> prediction = model.predict(image, valid)
    >>> prediction.class_ids.shape, prediction.scores.shape
    ((64, 64), (2, 64, 64))
    """

    def __init__(self, predictor: Predictor, settings: Settings, context: ProcessContext, path: Path) -> None:
        self._predictor, self._settings, self._context, self._path = predictor, settings, context, path
        info = predictor.info
        self.task = info.task
        self.classes = tuple(item["name"] for item in info.classes)
        self.outputs = tuple(info.outputs)
        self.bands, self.dtype = info.bands, info.dtype

    def __repr__(self) -> str:
        return f"<Model {self._predictor.info.model!r} of {self.task}: {', '.join(self.outputs)}>"

    @property
    def module(self) -> nn.Module:
        """The network itself, in eval mode on its device; its input is normalised, see `rvbuild.learn.normalize`.

        Raises
        ------
        ModelError
            A training backend or another engine computes the model: there is no network of torch.
        """
        from rvbuild.stages.engines.exported import ExportedNetwork
        from rvbuild.stages.network import Network

        if isinstance(self._predictor, ExportedNetwork):
            raise ModelError('the model has no torch module: another engine computes it; load it with engine="torch"')
        if not isinstance(self._predictor, Network):
            raise ModelError(
                f'the model has no torch module: the training backend "{self._predictor.info.model}" computes it'
            )
        return self._predictor.module

    @overload
    def predict(
        self, image: np.ndarray, valid: np.ndarray | None = None, *, scores: bool = True, progress: Any = None
    ) -> Prediction: ...

    @overload
    def predict(
        self, image: PathLike | Sequence[PathLike], *, out: PathLike, progress: Callable[[str], None] | None = None
    ) -> list[Path]: ...

    def predict(
        self,
        image: np.ndarray | PathLike | Sequence[PathLike],
        valid: np.ndarray | None = None,
        *,
        out: PathLike | None = None,
        scores: bool = True,
        progress: Callable[[str], None] | None = None,
    ) -> Prediction | list[Path]:
        """Predict an image in memory, or image files, with the windows and the merging of the project.

        Parameters
        ----------
        image : numpy.ndarray, path or list of paths
            An array, (C, H, W) with the bands and the dtype of the training, as `Scene.read` returns it, that is, after
            the transforms of the project. Or files or addresses of rasters, which are read as the project reads its
            scenes; for a stack, the files of each scene one after another.
        valid : numpy.ndarray, optional
            Only for an array: (H, W) or (C, H, W) bool, where there are data. Default: everywhere.
        out : path, optional
            Only for files: receives a directory of results for each scene, named like its first file without suffix. An
            earlier result is replaced.
        scores : bool
            Only for arrays: whether to return the scores of a segmentation, which takes memory.
        progress : callable, optional
            Receives a line for each file.

        Returns
        -------
        Prediction
            For an array.
        list of Path
            For files: the directory of each scene, with what `rvbuild predict` writes for it.

        Raises
        ------
        DataError
            The image does not have the bands and the dtype of the training, or cannot be read.
        TypeError
            The arguments exclude each other.
        """
        notes: Progress = Lines(progress)
        if isinstance(image, np.ndarray):
            if out is not None:
                raise TypeError("out goes with files; for an array, predict returns a Prediction")
            return self._predict_array(image, valid, scores, notes)
        if valid is not None:
            raise TypeError("valid goes with an array; files say themselves where they have data")
        if out is None:
            raise TypeError("for files, out says which directory receives the results")
        images = [image] if isinstance(image, str | os.PathLike) else list(image)
        return self._predict_files([_path(path) for path in images], Path(out).absolute(), notes)

    def _predict_array(
        self, image: np.ndarray, valid: np.ndarray | None, scores: bool, progress: Progress
    ) -> Prediction:
        from rvbuild.geo.raster.array import ArrayImage
        from rvbuild.stages.bundle.predict import predict_array

        if image.ndim != 3 or (len(image), image.dtype.name) != (self.bands, self.dtype):
            raise DataError(
                f"expected an array (bands, rows, columns) with {self.bands} bands of type {self.dtype}, as the model "
                f"was trained on; found {image.shape} of type {image.dtype.name}"
            )
        settings = self._settings.copy()
        settings["predict"] = {**settings["predict"], "scores": "float32" if scores else False}
        with self._context():
            results = predict_array(self._predictor, settings, ArrayImage(image, valid), progress)
        cell_px = results.pop("cell_px", None)
        return Prediction(**results, cell_px=None if cell_px is None else int(cell_px))

    def _predict_files(self, images: Sequence[Path], out: Path, progress: Progress) -> list[Path]:
        from rvbuild.stages.bundle.budget import require_memory
        from rvbuild.stages.bundle.predict import predict_scene, scenes_and_targets

        with self._context():
            scenes, targets = scenes_and_targets(images, out, self._settings)
            require_memory(self._path, self._settings, self._predictor.info, scenes)
            for files, target in zip(scenes, targets, strict=True):
                predict_scene(self._predictor, self._settings, files, target, progress)
        return targets


def load_model(path: PathLike, *, device: str = "auto", allow_code: bool = False, engine: Engine = "auto") -> Model:
    """Load the model of a bundle from `rvbuild bundle`.

    Parameters
    ----------
    path : path
        The zip.
    device : str
        `auto` (a GPU if there is one), `cpu`, `cuda`, or one GPU such as `cuda:1`.
    allow_code : bool
        Whether Python code in the bundle may run, with your permissions. Models of user code need it, unless an engine
        computes their export.
    engine : str
        What computes the network: `torch`; `onnxruntime` or `openvino`, for bundles with ONNX; `auto`, which is torch
        where it is installed, else an engine that is.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        The bundle is damaged, or the file is not a bundle.
    ModelError
        The model cannot be loaded, needs Python code that is not allowed to run, or the engine is not installed.
    UsageError
        There is no such engine.

    Examples
    --------
    >>> import rvbuild
    >>> model = rvbuild.load_model("cache/p/bundle/p.zip")
    >>> model.predict("data/c.tif", out="predicted")[0].name
    'c'
    """
    from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, read_info
    from rvbuild.stages.bundle.predict import open_bundle, require_permission
    from rvbuild.stages.predictor import exported_engine, load_predictor

    if engine not in get_args(Engine):
        raise UsageError(f"engine: expected one of {', '.join(get_args(Engine))}; found {engine!r}")
    bundle = Path(path).absolute()
    # Virtual files may only refer to files in their own directory.
    context = ProcessContext({**variables.for_workers(os.environ), **rules.places(None, ())}, None)
    with context(), tempfile.TemporaryDirectory(prefix="rvbuild-bundle-") as name:
        into = Path(name)
        settings = open_bundle(bundle, into)
        settings["predict"]["device"] = device
        info = read_info(into / DESCRIPTION)
        allow_model = allow_code or exported_engine(engine, info) is not None
        require_permission(bundle, info, settings["image"], allow_model, allow_code)
        predictor = load_predictor(
            into / WEIGHTS,
            into / DESCRIPTION,
            device,
            run_embedded_code=allow_code,
            engine=engine,
            where=str(bundle),
        )
    return Model(predictor, settings, context, bundle)


class Lines(Silent):
    """A progress that forwards notes to a callable."""

    def __init__(self, notify: Callable[[str], None] | None) -> None:
        self._notify = notify

    def note(self, message: str) -> None:
        """Forward a line."""
        if self._notify is not None:
            self._notify(message)


def _path(path: PathLike) -> Path:
    text = os.fspath(path)
    return Url(text) if is_url(text) else Path(text).absolute()
