"""How rvbuild uses GDAL: environment of its processes, the one silenced warning, errors in its words.

GDAL reads some settings only once, when it starts, and fiona and rasterio bring a copy of GDAL each. So what must hold
in both is put into the process environment before either is imported: a worker calls `set_environment` first.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DETERMINISTIC_ENVIRONMENT: Mapping[str, str] = {
    # A GeoPackage holds the time of its last change; without this its bytes differ at each writing.
    "OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z",
    # No .aux.xml beside what is written: statistics and names belong into the file itself.
    "GDAL_PAM_ENABLED": "NO",
}

BOUNDED_ENVIRONMENT: Mapping[str, str] = {
    # MB of decoded blocks. GDAL's own default is 5 % of the memory of the machine for each process.
    "GDAL_CACHEMAX": "256",
}

_WARNINGS = threading.RLock()


def deterministic_environment() -> dict[str, str]:
    """Return the environment variables under which GDAL writes the same bytes twice, with bounded memory.

    A variable that the user has set for memory (`GDAL_CACHEMAX`) is kept.
    """
    bounded = {name: os.environ.get(name, value) for name, value in BOUNDED_ENVIRONMENT.items()}
    return {**DETERMINISTIC_ENVIRONMENT, **bounded}


def set_environment() -> None:
    """Put `deterministic_environment()` into this process; call it before rasterio or fiona is imported."""
    os.environ.update(deterministic_environment())


@contextmanager
def not_georeferenced_is_fine() -> Iterator[None]:
    """Silence exactly rasterio's NotGeoreferencedWarning: an image in pixel coordinates is a normal image here.

    Python's warning filters belong to the whole process, so threads take turns.
    """
    from rasterio.errors import NotGeoreferencedWarning

    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", category=NotGeoreferencedWarning)
        yield
