import contextlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from rvbuild.cores import thread_count
from rvbuild.errors import ModelError, UsageError
from rvbuild.learn.device import amp_dtype, place, reproducible, select_device

CPU = torch.device("cpu")


def test_threads(monkeypatch):
    monkeypatch.setenv("RVBUILD_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.delenv("RVBUILD_THREADS")
    assert thread_count() >= 1
    monkeypatch.setenv("RVBUILD_THREADS", "two")
    with pytest.raises(UsageError, match="RVBUILD_THREADS: expected a whole number of at least 1, found 'two'"):
        thread_count()


def test_selection(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto") == select_device("cpu") == CPU
    with pytest.raises(ModelError, match=r'train\.device: "cuda" was requested, but torch .* sees no CUDA device'):
        select_device("cuda", "train.device")
    with pytest.raises(ModelError, match=r"expected .* found 'gpu'"):
        select_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_device("auto") == torch.device("cuda", 0) and select_device("cuda:1").index == 1
    with pytest.raises(
        ModelError, match='"cuda:2" was requested, but there are 2 CUDA devices; devices are numbered from 0'
    ):
        select_device("cuda:2")
    monkeypatch.setenv("RVBUILD_CARD", "1")  # what the run gives to a job
    assert select_device("auto").index == select_device("cuda").index == 1 and select_device("cuda:0").index == 0
    monkeypatch.setenv("RVBUILD_CARD", "5")
    with pytest.raises(ModelError, match=r'train.device: "cuda:5" was requested, but there are 2'):
        select_device("cuda", "train.device")


def test_precision(monkeypatch):
    assert amp_dtype("auto", CPU) is None and amp_dtype(False, CPU) is None
    with pytest.raises(ModelError, match=r"train\.amp: true needs a CUDA device"):
        amp_dtype(True, CPU)
    cuda = torch.device("cuda", 0)
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext(asked.append(device)))
    for has_bfloat16, dtype in [(True, torch.bfloat16), (False, torch.float16)]:
        # Cards before Ampere emulate it, slowly, and torch calls that supported.
        has = {True: True, False: has_bfloat16}
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: has[including_emulation]
        )
        assert amp_dtype("auto", cuda) == amp_dtype(True, cuda) == dtype
    assert amp_dtype(False, cuda) is None
    assert asked == [cuda] * 4


def test_place_makes_2d_kernels_channels_last():
    model = place(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 2)), CPU)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()


@pytest.mark.slow
def test_reproducible_blocks_import_no_compiler_but_tell_it():
    script = (
        "import sys, torch\n"
        "from rvbuild.learn.device import reproducible\n"
        "cpu = torch.device('cpu')\n"
        "with reproducible(0, cpu): assert torch.get_deterministic_debug_mode() == 1\n"
        "print(sorted({'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules)))\n"
        "import torch._inductor.config as compiler\n"
        "print(getattr(compiler, 'deterministic', True))\n"
        "with reproducible(0, cpu): print(getattr(compiler, 'deterministic', True))\n"
        "assert torch.get_deterministic_debug_mode() == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "True", "True"]


def test_reproducible_blocks_leave_the_process_as_it_was(monkeypatch):
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with reproducible(5, CPU, 2):
            assert torch.get_num_threads() == 2
        with reproducible(5, CPU):
            assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
            drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
    assert drawn[0] == drawn[1]
    assert not torch.are_deterministic_algorithms_enabled()
    assert (before[0], before[1]) == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(before[2], torch.get_rng_state())
