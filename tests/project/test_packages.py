"""Weights in installed packages: `package:file`."""

from __future__ import annotations

import sys
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
