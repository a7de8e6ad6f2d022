"""How rvbuild uses GDAL: the environment of its processes, and the one warning that means nothing here.

fiona and rasterio bring a copy of GDAL each, so what must hold in both is put into the process environment.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

DETERMINISTIC_ENVIRONMENT: Mapping[str, str] = {
    # A GeoPackage holds the time of its last change; without this its bytes differ at each writing.
    "OGR_CURRENT_DATE": "1970-01-01T00:00:00Z",
}


def not_georeferenced_is_fine() -> None:
    """Silence exactly rasterio's NotGeoreferencedWarning: an image in pixel coordinates is a normal image here.

    For the whole process and for good, by the modules that open rasters: Python's warning filters belong to no thread,
    so a filter for a while would end whenever another thread restores those that it found.
    """
    from rasterio.errors import NotGeoreferencedWarning

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
