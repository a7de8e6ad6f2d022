"""The state of a training after its last finished epoch, on disk: one file, replaced as a whole.

`checkpoint.safetensors` holds the weights, the optimizer's state and the best weights so far; everything else is JSON
in its metadata, with a digest of it all, so that a file that was cut off or has rotted is never used. There is no state
of random generators: every epoch seeds them anew from (seed, epoch). Where the model after each epoch is kept, its file
lies beside it, and its digest is in the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import xxhash

from rvbuild.files.durable import sync
from rvbuild.learn.models.pretrained.weights import State
from rvbuild.learn.selection import Epoch

CHECKPOINT = "checkpoint.safetensors"
FORMAT = 1

_META = "rvbuild"


@dataclass(frozen=True)
class Snapshot:
    """A training after an epoch."""

    identity: str
    """The identity of the training's trajectory; a snapshot of another identity is not used."""
    epoch: int
    """Finished epochs."""
    weights: State
    optimizer: Mapping[int, Mapping[str, object]]
    """The optimizer's state by parameter number: tensors and plain numbers."""
    scaler: Mapping[str, object]
    """The gradient scaler's state; empty without float16."""
    best: State | None
    """The weights of the best epoch so far, or None without validation."""
    lines: list[Epoch]
    """The log so far, one entry per epoch."""
    epochs: Mapping[str, str] = field(default_factory=dict)
    """The files beside it with the models after single epochs, with their digests; empty if they are not kept."""
    average: State | None = None
    """The average of the weights, or None if there is none."""


def save(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot in place of the last one; a kill at any time leaves one of the two."""
    tensors = {f"weights/{name}": value for name, value in snapshot.weights.items()}
    numbers: dict[str, object] = {}
    for index, values in snapshot.optimizer.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                numbers[f"{index}/{key}"] = value
    for name, value in (snapshot.best or {}).items():
        tensors[f"best/{name}"] = value
    for name, value in (snapshot.average or {}).items():
        tensors[f"average/{name}"] = value
    # Clones, because tied weights share memory, which safetensors refuses.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content: dict[str, object] = {
        "format": FORMAT,
        "identity": snapshot.identity,
        "epoch": snapshot.epoch,
        "numbers": numbers,
        "scaler": dict(snapshot.scaler),
        "lines": snapshot.lines,
    }
    if snapshot.epochs:
        content["epochs"] = dict(snapshot.epochs)
    # Not sorted: classes keep their order, so that curves do not change after an interruption.
    text = json.dumps({**content, "digest": _digest(tensors, content)})
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".tmp*"):  # safetensors writes under such a name first; a kill leaves it behind
        left.unlink(missing_ok=True)
    part = folder / f"{CHECKPOINT}.part"
    safetensors.torch.save_file(tensors, part, metadata={_META: text})
    sync(part)
    part.replace(folder / CHECKPOINT)
    sync(folder)


def load(folder: Path, identity: str, note: Callable[[str], None]) -> Snapshot | None:
    """Return the last snapshot, or None if there is no usable one; `note` receives the reason."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})[_META])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        digest = content.pop("digest")
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        note(f"the checkpoint {path} is damaged and is not used ({error}); the training starts again")
        return None
    if digest != _digest(tensors, content):
        note(f"the checkpoint {path} is damaged and is not used (its digest differs); the training starts again")
        return None
    if content["format"] != FORMAT or content["identity"] != identity:
        note(f"the checkpoint {path} belongs to another training and is not used; the training starts again")
        return None
    epochs = content.get("epochs", {})
    if not all(_is_as_written(folder / name, value) for name, value in epochs.items()):
        note(f"the model of an epoch is missing or damaged beside {path}; the training starts again")
        return None
    optimizer: dict[int, dict[str, object]] = {}
    for name, value in [*_part(tensors, "optimizer").items(), *content["numbers"].items()]:
        index, key = name.split("/", 1)
        optimizer.setdefault(int(index), {})[key] = value
    return Snapshot(
        identity=identity,
        epoch=content["epoch"],
        weights=_part(tensors, "weights"),
        optimizer=optimizer,
        scaler=content["scaler"],
        best=_part(tensors, "best") or None,
        lines=content["lines"],
        epochs=epochs,
        average=_part(tensors, "average") or None,
    )


def save_epoch(folder: Path, epoch: int, state: Mapping[str, torch.Tensor]) -> tuple[str, str]:
    """Write the model after an epoch, and return the name of the file and its digest; equal weights, equal bytes."""
    name = f"epoch-{epoch:03}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    safetensors.torch.save_file({key: value.contiguous().clone() for key, value in state.items()}, part)
    sync(part)
    part.replace(folder / name)
    return name, file_digest(folder / name)


def file_digest(path: Path) -> str:
    """Return the digest of a file."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return str(state.hexdigest())


def _is_as_written(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except OSError:
        return False


def _part(tensors: Mapping[str, torch.Tensor], kind: str) -> State:
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Mapping[str, torch.Tensor], content: Mapping[str, object]) -> str:
    state = xxhash.xxh3_128(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        state.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        state.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return str(state.hexdigest())
