"""A wheel like those on the package index, with one annotated image in it."""

import hashlib
import zipfile

import pytest

from rvbuild.data.wheel import Member, Wheel

ANNOTATION = """<annotation><size><width>100</width><height>50</height></size>
<object><bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "rvbuildsample-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("rvbuildsample/scene.xml", ANNOTATION)
        archive.writestr("rvbuildsample/scene.bin", b"pixels")
        info = "rvbuildsample-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: rvbuildsample\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def wheel(wheels):
    content = (wheels / "rvbuildsample-1.0-py3-none-any.whl").read_bytes()
    return Wheel(
        requirement="rvbuildsample==1.0",
        filename="rvbuildsample-1.0-py3-none-any.whl",
        sha256=hashlib.sha256(content).hexdigest(),
        members=(
            Member("rvbuildsample/scene.xml", "scene.xml", hashlib.sha256(ANNOTATION.encode()).hexdigest()),
            Member("rvbuildsample/scene.bin", "scene.bin", hashlib.sha256(b"pixels").hexdigest()),
        ),
    )
