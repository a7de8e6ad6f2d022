"""Predictions of many images as jobs of worker processes, which share an extracted bundle and keep their model."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from rvbuild.cores import CARD_VARIABLE
from rvbuild.errors import DataError
from rvbuild.files.formats import DRIVERS, WRITES_LAYERS
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, read_info
from rvbuild.progress import Progress
from rvbuild.settings.predict import PredictSettings
from rvbuild.stages.bundle.budget import require_memory
from rvbuild.stages.bundle.check import checked_settings, read_json
from rvbuild.stages.bundle.predict import (
    Settings,
    files_of_scene,
    open_bundle,
    predict_into,
    require_permission,
    vector_names,
)
from rvbuild.stages.bundle.write import PROJECT
from rvbuild.stages.names import AnyTestTime, Engine
from rvbuild.stages.predictor import Predictor, engine_of, exported_engine, load_predictor, require_usable


class Opened(TypedDict):
    """What a command needs to know of a bundle."""

    task: str
    engine: str
    """What computes the network here."""
    device: str
    files: int
    """The number of files of a scene."""
    assets: list[str]
    """The names of the layers of a scene, as far as they have names: assets of STAC items."""
    vectors: list[str]
    """The names that vector files of a result may have."""


def open_once(bundle: Path, named: Path, into: Path, allow_code: bool, engine: Engine, progress: Progress) -> Opened:
    """Extract a bundle for the jobs that follow, and return what it is.

    Parameters
    ----------
    bundle
        The zip.
    named
        What messages call it.
    into
        An existing empty directory.
    allow_code
        Whether Python code in the bundle may run.
    engine
        What computes the network.
    progress
        Receives nothing: a bundle opens in a moment.

    Raises
    ------
    DataError
        The bundle is damaged.
    ModelError
        It needs Python code that is not allowed to run, or an engine that is not installed.
    """
    settings = open_bundle(bundle, into, named)
    info = read_info(into / DESCRIPTION)
    without_code = allow_code or exported_engine(engine, info) is not None
    require_permission(named, info, settings["image"], without_code, allow_code)
    require_usable(into / WEIGHTS, info, engine, str(named))
    _require_writer(named, settings["predict"])
    image = settings["image"]
    layers = image.get("layers", [])
    return {
        "task": settings["task"],
        "engine": engine_of(engine, info),
        "device": settings["predict"]["device"],
        "files": files_of_scene(image),
        "assets": [layer["name"] for layer in layers if "name" in layer],
        "vectors": sorted(vector_names(settings)),
    }


def predict_files(
    named: Path,
    opened: Path,
    image: Sequence[Path],
    outputs: Path,
    allow_code: bool,
    engine: Engine,
    tta: AnyTestTime | None,
    progress: Progress,
) -> None:
    """Write the prediction for one scene into an empty directory; a worker loads the model for the first one.

    Parameters
    ----------
    named
        The bundle, for messages.
    opened
        The directory that it was extracted to.
    image
        The files of the scene.
    outputs
        The directory.
    allow_code, engine
        See `open_once`.
    tta
        The test-time augmentation, or "none"; None: that of the bundle.
    progress
        Receives progress, in windows.

    Raises
    ------
    DataError
        The image does not fit the model, or cannot be read.
    ModelError
        The model cannot be loaded.
    """
    settings, predictor = _loaded(named, opened, allow_code, engine, tta, os.environ.get(CARD_VARIABLE))
    require_memory(named, settings, predictor.info, [image])
    predict_into(predictor, settings, image, outputs, progress)


def _require_writer(bundle: Path, predict: PredictSettings) -> None:
    """Raise a DataError if vectors of a bundle need a package that is not installed."""
    names = [vector.get("file", f".{vector.get('format')}") for vector in predict["vectors"]]
    names += [f".{value}" for key, value in predict.items() if key in ("boxes", "cells")]
    wanted = sorted({suffix for name in names if (suffix := Path(f"x{name}").suffix) in DRIVERS})
    if wanted and importlib.util.find_spec(WRITES_LAYERS) is None:
        raise DataError(
            f"{bundle}: writes {' and '.join(wanted)} files, which needs the package {WRITES_LAYERS}: "
            "pip install 'rvbuild-runtime[vectors]'. GeoJSON needs no package"
        )


@functools.lru_cache(maxsize=1)
def _loaded(
    bundle: Path, opened: Path, allow_code: bool, engine: Engine, tta: AnyTestTime | None, _card: str | None
) -> tuple[Settings, Predictor]:
    where = f"{bundle}: {PROJECT}"
    settings = checked_settings(read_json(opened / PROJECT, where), where)
    if tta == "none":
        settings["predict"].pop("tta", None)
    elif tta is not None:
        settings["predict"]["tta"] = tta
    predictor = load_predictor(
        opened / WEIGHTS,
        opened / DESCRIPTION,
        settings["predict"]["device"],
        run_embedded_code=allow_code,
        engine=engine,
        where=str(bundle),
    )
    return settings, predictor
