"""The device that computes: selection, threads, precision, layout, reproducibility."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from torch import nn

from rvbuild.cores import CARD_VARIABLE, thread_count
from rvbuild.errors import ModelError


def select_device(name: str = "auto", where: str = "device") -> torch.device:
    """Return the device with the given name.

    Parameters
    ----------
    name
        `"auto"` (CUDA where there is one), `"cpu"`, `"cuda"`, or one card: `"cuda:1"`. Without a number it is the
        card that the run has given to this job, or else the first.
    where
        The option to name in an error, for example `"train.device"`.
    """
    kind, _, card = name.partition(":")
    if name not in ("auto", "cpu") and (kind != "cuda" or (card and not card.isdecimal())):
        raise ModelError(f'{where}: expected "auto", "cpu", "cuda" or "cuda:0", found {name!r}')
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ModelError(
            f'{where}: "{name}" was requested, but torch {torch.__version__} sees no CUDA device; '
            f'check the driver with nvidia-smi, or use "auto" or "cpu"'
        )
    number = int(card or os.environ.get(CARD_VARIABLE, "").partition(",")[0] or 0)
    if number >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        there = "there is 1 CUDA device" if count == 1 else f"there are {count} CUDA devices"
        raise ModelError(f'{where}: "cuda:{number}" was requested, but {there}; devices are numbered from 0')
    return torch.device("cuda", number)


def amp_dtype(amp: bool | str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of automatic mixed precision on `device`, or None for plain float32.

    `"auto"` is bfloat16 on CUDA cards that have it, float16 on the others, and off on a CPU, where it is many times
    slower.
    """
    if amp is False or (amp == "auto" and device.type != "cuda"):
        return None
    if device.type != "cuda":
        raise ModelError('train.amp: true needs a CUDA device, but the training runs on the CPU; use "auto" or false')
    with torch.cuda.device(device):
        # Devices that only emulate bfloat16 are slower with it than with float32.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move `model` to `device`, its 2D kernels in channels-last layout: faster on CPUs and on tensor cores."""
    model.to(device)
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return model


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return `tensor` on `device`; to CUDA through pinned memory, so that the copy overlaps with computing."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and `random`, which a user's own model or loss may use."""
    torch.manual_seed(seed)
    _seed_numpy_and_python(seed)


def seed_by(name: str) -> None:
    """Seed like `seed_everything`, by the digest of a name."""
    digest = hashlib.blake2b(name.encode(), digest_size=8)
    seed_everything(int.from_bytes(digest.digest(), "little"))


def seed_cpu(seed: int) -> None:
    """Seed like `seed_everything`, except GPUs: draws of a model there must not depend on who creates batches."""
    torch.default_generator.manual_seed(seed)
    _seed_numpy_and_python(seed)


def _seed_numpy_and_python(seed: int) -> None:
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state() -> tuple[object, ...]:
    """Return the states of the global random generators on the CPU, to be compared."""
    _, words, *position = np.random.get_state(legacy=True)
    return torch.get_rng_state().numpy().tobytes(), np.asarray(words).tobytes(), position, random.getstate()


@contextlib.contextmanager
def kept_random_state(device: torch.device | None = None) -> Iterator[None]:
    """Run a block that may draw from, or seed, the global random generators; they are as before afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextlib.contextmanager
def reproducible(seed: int, device: torch.device, threads: int | None = None) -> Iterator[None]:
    """Run a block with fixed seeds, threads and deterministic kernels; the process is as before afterwards.

    Kernels without a deterministic form still run, and torch warns about each. The number of threads is `threads`, or
    else `thread_count()`.
    """
    # cuBLAS reads it when its first handle is created, the compiler when it is imported.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    before, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    # A user's own model then gets the same GPU for "cuda".
    card = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with card, kept_random_state(device):
        try:
            torch.set_num_threads(threads or thread_count())
            _set_deterministic(1)
            # Filling every new tensor would cost time, and only hides reads of memory that was never written.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = False
            seed_everything(seed)
            yield
        finally:
            torch.set_num_threads(before)
            _set_deterministic(mode)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = benchmark


def _set_deterministic(mode: int) -> None:
    """Set torch's choice of kernels: 0 any, 1 deterministic ones with a warning where there is none, 2 those alone.

    `torch.use_deterministic_algorithms` would import the compiler to tell it, too: seconds and 200 MB that few need.
    """
    if "torch._inductor.config" in sys.modules:
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)
    else:
        torch.set_deterministic_debug_mode(mode)
