"""Writes a bundle as the files of a model repository; nothing is uploaded. Equal bundles give equal bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import safetensors

from rvbuild.learn.model_files import DESCRIPTION, ONNX, ONNX_WEIGHTS, WEIGHTS, ModelInfo, read_info
from rvbuild.learn.selection import Epoch, best_epoch
from rvbuild.progress import Progress
from rvbuild.stages.bundle.card import BUNDLE_IN_CARD, card
from rvbuild.stages.bundle.hub.folder import CONFIG, MODEL_TYPE, config_of, require_ours
from rvbuild.stages.bundle.hub.front_matter import front_matter
from rvbuild.stages.bundle.predict import open_bundle
from rvbuild.stages.bundle.settings import BundleStageSettings, PortableSettings
from rvbuild.stages.bundle.write import PROJECT, STATS
from rvbuild.stages.bundle.zip import FORMAT, MANIFEST, sha256

CARD, PREPROCESSOR = "README.md", "preprocessor_config.json"

_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")


def write_repository(
    bundle: Path, log: Path | None, about: PortableSettings | None, name: str, folder: Path, progress: Progress
) -> list[str]:
    """Write the files of a model repository, and return their names.

    Parameters
    ----------
    bundle
        The zip.
    log
        The `log.jsonl` of the training; None of a training backend, which has none.
    about
        What the card tells of the training; None if the bundle is all there is: its own card is taken then, and a
        bundle without one gets a card without data, metrics and licence.
    name
        Of the project.
    folder
        Receives the files: missing, empty, or one that was written before. Files that rvbuild has not written stay as
        they are, and so does a card that was edited.
    progress
        Receives the files as they are written.

    Raises
    ------
    DataError
        The bundle is damaged.
    UsageError
        The directory has other files.
    """
    require_ours(folder)
    before = config_of(folder).get("files", {})
    epochs = [] if log is None else [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory(prefix="rvbuild-bundle-") as temporary:
        content = Path(temporary)
        members = [member for member in _opened(bundle, content) if member != CARD]
        texts = _texts(content, members, epochs, about, name)
        progress.start(f"write {folder}", len(members) + len(texts), "files")
        folder.mkdir(parents=True, exist_ok=True)
        for old in before if isinstance(before, Mapping) else ():
            if old not in (*members, *texts) and _is_ours(folder, old, before):
                (folder / old).unlink()
        for member in members:
            _put(content / member, folder / member)
            progress.advance()
        for file, text in texts.items():
            if file == CARD and (folder / CARD).exists() and not _is_ours(folder, CARD, before):
                progress.note(f"{folder / CARD} was edited, and stays as it is")
                continue
            (content / file).write_bytes(text)
            _put(content / file, folder / file)
            progress.advance()
    return [*members, *texts]


def _opened(bundle: Path, into: Path) -> list[str]:
    """Extract a bundle, which may be a stranger's, and return the names of its members."""
    open_bundle(bundle, into)
    return sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file())


def _texts(
    content: Path, members: Sequence[str], epochs: Sequence[Epoch], about: PortableSettings | None, name: str
) -> dict[str, bytes]:
    """Return the files that a bundle does not have, by name; the one that marks a directory as ours is the last."""
    info = read_info(content / DESCRIPTION)
    settings: BundleStageSettings = json.loads((content / PROJECT).read_bytes())
    stats = json.loads((content / STATS).read_bytes())
    onnx = ONNX in members
    start, kept = ("unknown", None) if about is None else (about["start"], _kept(epochs, about))
    if about is None and (content / CARD).is_file():
        text = (content / CARD).read_text(encoding="utf-8").replace(BUNDLE_IN_CARD, "DIR")
    else:
        if about is not None:
            settings["onnx"] = about
        text = card(
            info,
            settings,
            stats,
            epochs,
            _parameters(content / WEIGHTS),
            onnx=onnx,
            two_files=ONNX_WEIGHTS in members,
            place="DIR",
        )
    texts = {
        CARD: (front_matter(info, name, start, kept, onnx) + "\n" + text).encode(),
        PREPROCESSOR: _json(preprocessor(info)),
        MANIFEST: _json({"format": FORMAT, "members": {member: _entry(content / member) for member in members}}),
    }
    files = {member: _entry(content / member)["sha256"] for member in members}
    files |= {file: _sha(text) for file, text in texts.items()}
    return {**texts, CONFIG: _json({**config(info), "files": files})}


def config(info: ModelInfo) -> dict[str, Any]:
    """Return the content of `config.json`, with the names that transformers gives to what both have."""
    labels = dict(enumerate(info.outputs))
    return {
        "model_type": MODEL_TYPE,
        "architectures": [info.model],
        "task": info.task,
        "model_args": dict(info.model_args),
        "num_channels": info.bands,
        "image_size": info.chip_px,
        "id2label": {str(number): label for number, label in labels.items()},
        "label2id": {label: number for number, label in labels.items()},
    }


def preprocessor(info: ModelInfo) -> dict[str, Any]:
    """Return how values become input, with transformers' names where they can say it, and as `model.json` does."""
    normalize: Any = info.normalize
    content: dict[str, Any] = {
        "size": {"height": info.chip_px, "width": info.chip_px},
        "num_channels": info.bands,
        "dtype": info.dtype,
        "normalize": normalize,
    }
    kind, standard = normalize.get("kind"), normalize.get("standard")
    if kind == "scale":
        content |= {"do_rescale": True, "rescale_factor": 1 / normalize["max"], "do_normalize": standard is not None}
        if standard is not None:
            content |= {"image_mean": standard["mean"], "image_std": standard["std"]}
    elif kind == "zscore":
        content |= {"do_rescale": False, "do_normalize": True}
        content |= {"image_mean": normalize["mean"], "image_std": normalize["std"]}
    return content


def _kept(epochs: Sequence[Epoch], about: PortableSettings) -> Epoch | None:
    """Return the epoch of the weights."""
    if not epochs:
        return None
    number = best_epoch(epochs, about["select_metric"]) if about["select"] == "best" else epochs[-1]["epoch"]
    return next(epoch for epoch in epochs if epoch["epoch"] == number)


def _parameters(weights: Path) -> int:
    """Return how many weights were trained, from the header of a file alone."""
    with safetensors.safe_open(weights, framework="numpy") as file:
        names = [name for name in file.keys() if not name.endswith(_NOT_TRAINED)]  # noqa: SIM118 - not a dict
        return sum(prod(file.get_slice(name).get_shape()) for name in names)


def _put(source: Path, target: Path) -> None:
    """Copy a file as a whole: a reader sees the old one or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    shutil.copyfile(source, part)
    part.replace(target)


def _is_ours(folder: Path, name: str, written: Any) -> bool:
    """Tell whether a file is as it was written."""
    path = folder / name
    plain = ".." not in Path(name).parts and not Path(name).is_absolute() and path.is_file() and not path.is_symlink()
    return plain and isinstance(written, Mapping) and written.get(name) == sha256(path)


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()
