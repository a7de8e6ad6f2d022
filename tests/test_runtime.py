"""The second distribution, rvbuild-runtime: the same code and version, without torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement

import rvbuild

ROOT = Path(__file__).resolve().parent.parent
WHOLE = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = tomli.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]

LEFT_OUT = {
    "doit", "fsspec", "jinja2", "markdown-it-py", "markupsafe", "pillow", "pydantic", "tomli", "torch", "torchvision",
}  # fmt: skip
"""What only building needs."""

OPTIONAL = {"fiona": "vectors", "rich": "progress"}
"""What some predictions need, each by its extra."""


def requirements(texts: list[str]) -> dict[str, str]:
    return {Requirement(text).name: str(Requirement(text).specifier) for text in texts}


def test_it_needs_what_rvbuild_needs_without_torch_and_with_onnxruntime() -> None:
    whole = requirements(WHOLE["dependencies"])
    onnxruntime = requirements(WHOLE["optional-dependencies"]["onnx"])["onnxruntime"]
    expected = {name: versions for name, versions in whole.items() if name not in LEFT_OUT | OPTIONAL.keys()}
    assert requirements(RUNTIME["dependencies"]) == {**expected, "onnxruntime": onnxruntime}
    assert set(whole) >= LEFT_OUT
    extras = RUNTIME["optional-dependencies"]
    assert {name: requirements(extras[extra])[name] for name, extra in OPTIONAL.items()} == {
        name: whole[name] for name in OPTIONAL
    }
    assert (RUNTIME["requires-python"], RUNTIME["scripts"]) == (WHOLE["requires-python"], WHOLE["scripts"])


@pytest.mark.slow
def test_its_wheel_holds_the_same_files(tmp_path: Path) -> None:
    contents = []
    for folder in (ROOT, ROOT / "runtime"):
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in ("rvbuild-", "rvbuild_runtime-"):
        (wheel,) = tmp_path.glob(f"{name}*.whl")
        with zipfile.ZipFile(wheel) as archive:
            files = {entry.filename: entry.CRC for entry in archive.infolist() if ".dist-info/" not in entry.filename}
        contents.append(files)
        assert wheel.name.split("-")[1] == rvbuild.__version__
    assert {name: crc for name, crc in contents[1].items() if name != "rvbuild/LICENSE"} == contents[0]
    assert "rvbuild/stages/engines/exported.py" in contents[1] and "rvbuild/rules/bundle.py" in contents[1]
