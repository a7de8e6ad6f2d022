"""Keys of a point in the project file: everything else stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.project.load import load
from rvbuild.session.experiments.points import make
from rvbuild.session.experiments.promote import edit

TEXT = """
[project]
task = "semantic_segmentation"
[classes]
house = "#ff0000"
other = "#808080"
[scenes]
train = ["a"]
validation = ["b"]
[scene]
image = "{id}.tif"
labels = { raster = "{id}_label.tif", encoding = "id" }
[chip]
size_px = 100  # a side
[train]
augment = [
    "flip",  # both ways
    "blur",
]
"""


@pytest.mark.parametrize(("mark", "end"), [("", "\n"), ("\ufeff", "\n"), ("\ufeff", "\r\n")])
def test_windows_files_stay_what_they_are(tmp_path: Path, mark: str, end: str) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes((mark + TEXT).replace("\n", end).encode())
    (point,) = make(path, [{"chip.size_px": 64, "train.lr": 0.002}])
    change = edit(load(path), point)
    change.write()
    expected = TEXT.replace("100", "64") + "lr = 0.002\n"
    assert path.read_bytes() == (mark + expected).replace("\n", end).encode()
    assert [line for line in change.lines if line.startswith("+")][1:] == ["+size_px = 64  # a side", "+lr = 0.002"]
