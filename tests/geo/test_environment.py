from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

import rvbuild

SCRIPT = """
    import os
    import sys
    from pathlib import Path
    from rvbuild.geo.gdal.environment import DETERMINISTIC_ENVIRONMENT
    os.environ.update(DETERMINISTIC_ENVIRONMENT)
    import fiona
    schema = {"geometry": "Point", "properties": {"class_id": "int32"}}
    with fiona.open(sys.argv[1], "w", driver="GPKG", layer="trees", schema=schema, crs="EPSG:32633") as file:
        file.write({"type": "Feature", "properties": {"class_id": 1},
                    "geometry": {"type": "Point", "coordinates": (1.0, 2.0)}})
"""


@pytest.mark.slow
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


WARNER = """
    import sys
    import warnings
    import rvbuild.geo.{module}
    import rasterio
    with warnings.catch_warnings():  # somebody else's filters, which end
        warnings.simplefilter("ignore", RuntimeWarning)
    rasterio.open(sys.argv[1]).close()
    warnings.warn("something else", UserWarning)
"""


@pytest.mark.parametrize("module", ["rasterfile", "outputs", "rasterize"])
def test_exactly_one_warning_is_silenced(tmp_path: Path, write_raster: Callable[..., Path], module: str) -> None:
    image = write_raster(tmp_path / "i.tif", np.zeros((1, 4, 4), np.uint8), crs=None, transform=Affine.identity())
    script = textwrap.dedent(WARNER.format(module=module))
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script, str(image)],
        check=True,
        timeout=120,
        cwd=Path(rvbuild.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert "UserWarning: something else" in done.stderr
    assert "NotGeoreferencedWarning" not in done.stderr
