"""Settings of GDAL: those of writers, and a warning that is irrelevant here.

fiona and rasterio bring a copy of GDAL each, so what must hold in both is put into the environment of workers; see
`rvbuild.process.variables`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from rvbuild.process.variables import PINNED

DETERMINISTIC_ENVIRONMENT: Mapping[str, str] = {name: PINNED[name] for name in ("OGR_CURRENT_DATE",)}
"""Settings that a writer also sets itself, since a test or a script may call it in a process that is not a worker."""


def not_georeferenced_is_fine() -> None:
    """Silence exactly rasterio's NotGeoreferencedWarning: an image in pixel coordinates is a normal image here.

    For the whole process and for good, by the modules that open rasters: Python's warning filters belong to no thread,
    so a filter for a while would end whenever another thread restores those that it found.
    """
    from rasterio.errors import NotGeoreferencedWarning

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
