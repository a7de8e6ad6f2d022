"""How rvbuild uses GDAL: the environment of its processes, and the one warning that means nothing here.

fiona and rasterio bring a copy of GDAL each, so what must hold in both is put into the process environment.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DETERMINISTIC_ENVIRONMENT: Mapping[str, str] = {
    # A GeoPackage holds the time of its last change; without this its bytes differ at each writing.
    "OGR_CURRENT_DATE": "1970-01-01T00:00:00Z",
}

_WARNINGS = threading.RLock()


@contextmanager
def not_georeferenced_is_fine() -> Iterator[None]:
    """Silence exactly rasterio's NotGeoreferencedWarning: an image in pixel coordinates is a normal image here.

    Python's warning filters belong to the whole process, so threads take turns.
    """
    from rasterio.errors import NotGeoreferencedWarning

    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", category=NotGeoreferencedWarning)
        yield
