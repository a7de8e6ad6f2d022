from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from rasterio.errors import NotGeoreferencedWarning

import rvbuild
from rvbuild.geo.environment import not_georeferenced_is_fine

SCRIPT = """
    import os
    import sys
    from pathlib import Path
    from rvbuild.geo.environment import DETERMINISTIC_ENVIRONMENT
    os.environ.update(DETERMINISTIC_ENVIRONMENT)
    import fiona
    schema = {"geometry": "Point", "properties": {"class_id": "int32"}}
    with fiona.open(sys.argv[1], "w", driver="GPKG", layer="trees", schema=schema, crs="EPSG:32633") as file:
        file.write({"type": "Feature", "properties": {"class_id": 1},
                    "geometry": {"type": "Point", "coordinates": (1.0, 2.0)}})
"""


def test_a_geopackage_has_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    script = textwrap.dedent(SCRIPT)
    written = []
    for name in ("one", "two"):
        path = tmp_path / name / "trees.gpkg"
        path.parent.mkdir()
        subprocess.run(
            [sys.executable, "-c", script, str(path)], check=True, timeout=120, cwd=Path(rvbuild.__file__).parents[1]
        )
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_exactly_one_warning_is_silenced() -> None:
    with not_georeferenced_is_fine():
        warnings.warn("no geotransform", NotGeoreferencedWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("something else", UserWarning, stacklevel=1)
    with pytest.raises(NotGeoreferencedWarning):
        warnings.warn("no geotransform", NotGeoreferencedWarning, stacklevel=1)
