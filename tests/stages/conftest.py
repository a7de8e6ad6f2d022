from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.stages.sample_bundles import pack
from tests.stages.sample_scenes import write_model


@pytest.fixture(scope="session")
def made_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model and its bundle, made once."""
    folder = tmp_path_factory.mktemp("made")
    pack(folder, write_model(folder / "model"))
    return folder


@pytest.fixture
def packed(made_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, `tmp_path/packed/bundle.zip`, and its model, `tmp_path/model`."""
    return Path(shutil.copytree(made_bundle, tmp_path, dirs_exist_ok=True)) / "packed" / "bundle.zip"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with ONNX, made once."""
    folder = tmp_path_factory.mktemp("exported")
    return pack(folder, write_model(folder / "model"), onnx=True)


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy of the bundle with ONNX."""
    return Path(shutil.copy(exported, tmp_path))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch compute with one thread."""
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
