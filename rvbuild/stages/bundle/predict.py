"""Bundles used: opened with distrust, and applied to new imagery."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rvbuild import tasks
from rvbuild.errors import DataError, ModelError
from rvbuild.geo.raster.array import ArrayImage
from rvbuild.learn.model_files import DESCRIPTION, ModelInfo, read_info
from rvbuild.process.memory import give_back
from rvbuild.progress import Progress
from rvbuild.settings.image import ImageSettings
from rvbuild.settings.predict import PredictSettings
from rvbuild.stages.bundle import results
from rvbuild.stages.bundle import signature as bundle_signature
from rvbuild.stages.bundle.check import check_normalize, checked_settings, read_json
from rvbuild.stages.bundle.settings import BundleSettings
from rvbuild.stages.bundle.write import MEMBERS, PROJECT, STATS, code_members
from rvbuild.stages.bundle.zip import EXTRAS, extract_zip
from rvbuild.stages.infer import infer_image, infer_scene
from rvbuild.stages.predictor import Predictor
from rvbuild.tasks.metrics.tables import without_null

Settings: TypeAlias = BundleSettings[PredictSettings]


def open_bundle(path: Path, into: Path, named: Path | None = None) -> Settings:
    """Extract a bundle and return its settings of prediction.

    Nothing in a bundle is executed here. With a key in the environment (RVBUILD_BUNDLE_KEY) it must be signed.

    Parameters
    ----------
    path
        The zip.
    into
        An existing empty directory that receives the members.
    named
        What messages call it; default: the path.

    Returns
    -------
    BundleSettings
        The settings, checked.

    Raises
    ------
    DataError
        The file is damaged, or was not written by the bundle stage.
    """
    shown = named or path
    if not path.is_file():
        raise DataError(f"{shown}: no such file; expected a bundle, as written by `rvbuild bundle`")
    names = extract_zip(path, into, MEMBERS, bundle_signature.checker(path))
    where = f"{shown}: {PROJECT}"
    settings = checked_settings(read_json(into / PROJECT, where), where)
    read_json(into / STATS, f"{shown}: {STATS}")
    try:
        info = read_info(into / DESCRIPTION)
    except ModelError as error:
        raise DataError(f"{shown}: {error}") from error
    _require_agreement(shown, settings, info)
    embedded = {DESCRIPTION: code_members(info.code), PROJECT: code_members(settings["image"].get("code"))}
    if set(names) - MEMBERS - EXTRAS != {name for code in embedded.values() for name in code}:
        raise DataError(f"{shown}: the files under code/ are not the modules that {DESCRIPTION} and {PROJECT} embed")
    for member, code in embedded.items():
        for name, text in code.items():
            # A person reads the file, Python runs the text: they must be the same.
            if (into / name).read_bytes() != text:
                raise DataError(f"{shown}: {name} differs from the module that {member} embeds")
    return settings


def scenes_and_targets(
    images: Sequence[Path], out: Path, settings: Settings
) -> tuple[list[Sequence[Path]], list[Path]]:
    """Return the files of each scene, and the directory that its results go to: `out/STEM` of its first file."""
    scenes = results.by_stem(results.grouped(images, files_of_scene(settings["image"])))
    targets = results.places(scenes, out, vector_names(settings))
    return [scene.files for scene in scenes], targets


def files_of_scene(image: ImageSettings) -> int:
    """Return the number of files of a scene: one, or one for each layer of a stack."""
    return sum(layer["files"] for layer in image["layers"]) if "layers" in image else 1


def vector_names(settings: Settings) -> set[str]:
    """Return the names that vector files of a result may have, without suffixes."""
    vectors = {item["name"] for item in settings["classes"]}
    return vectors | {Path(vector["file"]).stem for vector in settings["predict"]["vectors"] if "file" in vector}


def predict_scene(
    predictor: Predictor,
    settings: Settings,
    files: Sequence[Path],
    target: Path,
    progress: Progress,
) -> None:
    """Write the prediction for one scene to a directory, which appears when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    progress.note(f"{', '.join(map(str, files))} → {target}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as hidden:
        # One level deeper: the published directory has the usual permissions, not those of a private one.
        staging = Path(hidden) / target.name
        staging.mkdir()
        predict_into(predictor, settings, files, staging, progress)
        results.replace(target, staging, Path(hidden) / "before")


def predict_into(
    predictor: Predictor, settings: Settings, files: Sequence[Path], outputs: Path, progress: Progress
) -> None:
    """Write the prediction for one scene into an empty directory."""
    infer_scene(predictor, files, settings, outputs, progress)
    give_back()
    task = tasks.get(settings["task"])
    task.derive({path.name: path for path in outputs.iterdir()}, settings, outputs, progress)
    for name in set(task.RAW) - results.NAMED:
        (outputs / name).unlink()


def predict_array(
    predictor: Predictor, settings: Settings, image: ArrayImage, progress: Progress
) -> dict[str, np.ndarray]:
    """Return the prediction for an image in memory; see `rvbuild.tasks.protocol.Task.arrays`."""
    task = tasks.get(settings["task"])
    with tempfile.TemporaryDirectory(prefix="rvbuild-predict-") as name:
        infer_image(predictor, lambda: image, None, settings, Path(name), progress)
        return task.arrays({raw: Path(name) / raw for raw in task.RAW}, settings)


def _require_agreement(path: Path, settings: Settings, info: ModelInfo) -> None:
    """Raise a DataError if settings and model are not of one training."""
    # The model does not hold colours, so that changing one does not train again.
    classes = [(item["id"], item["name"]) for item in settings["classes"]]
    pairs: dict[str, tuple[object, object]] = {
        "task": (settings["task"], info.task),
        "classes": (classes, [(item.get("id"), item.get("name")) for item in info.classes]),
        "null_id": (settings["null_id"], info.null_id),
        "chip_px": (settings["chip_px"], info.chip_px),
    }
    for name, (of_project, of_model) in pairs.items():
        if of_project != of_model:
            raise DataError(f"{path}: {name} differs between {PROJECT} and {DESCRIPTION}")
    trained = [item["name"] for item in without_null(settings["classes"], settings["null_id"])]
    if not info.backend:
        check_normalize(info.normalize, info.bands, f"{path}: {DESCRIPTION}")
    if info.outputs != trained:
        raise DataError(f"{path}: {DESCRIPTION}: outputs: expected the classes {trained}, found {info.outputs!r:.200}")


def require_permission(
    path: Path, info: ModelInfo, image: ImageSettings, allow_model: bool, allow_transforms: bool
) -> None:
    """Raise a ModelError if user code creates the model or transforms pixels, and is not allowed to run."""
    done_by_code = f'the model "{info.model}" is made' if (":" in info.model or info.code) and not allow_model else ""
    for step in image.get("transform", ()):
        if step["kind"] == "function" and not done_by_code and not allow_transforms:
            done_by_code = f'pixels are transformed ("{step["function"]}")'
    if done_by_code:
        raise ModelError(
            f"{path}: {done_by_code} by Python code that comes with the bundle and would run with all of your "
            "permissions. Read it in the zip under code/; if you trust it, allow it with --allow-code"
        )
