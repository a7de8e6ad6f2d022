"""OlmoEarth's encoders: foundation models for Sentinel-2, by name; nothing is imported.

The code is in the package olmoearth-pretrain-minimal (Apache-2.0), the weights are on the Hugging Face hub under a
licence of their own.
"""

from __future__ import annotations

from rvbuild.errors import nearest

PREFIX = "olmoearth/"

EXTRA = "rvbuild[olmoearth]"

PACKAGE = "olmoearth_pretrain_minimal"

LICENCE = "OlmoEarth Artifact License"
"""Of the weights."""

LICENCE_LINK = "https://github.com/allenai/olmoearth_pretrain/blob/main/LICENSE"

BANDS = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09")
"""Sentinel-2's, in the order in which the encoders take them."""

WEIGHTS = "weights.pth"
"""The file of weights in a repository of the hub."""

PARAMETERS = {
    "olmoearth/v1_1_nano": 1_700_000,
    "olmoearth/v1_1_tiny": 12_500_000,
    "olmoearth/v1_1_base": 114_000_000,
    "olmoearth/v1_2_nano": 1_700_000,
    "olmoearth/v1_2_tiny": 12_500_000,
    "olmoearth/v1_2_small": 35_600_000,
    "olmoearth/v1_2_base": 114_000_000,
}
"""The encoders, with their numbers of parameters as published. Version 1.0 is left out: it has not learnt to do without
bands, and 1.3 has parts that only serve a use that is not ours."""


def problem(name: str) -> str | None:
    """Return why a name that begins with the prefix is not that of an encoder, or None.

    >>> problem("olmoearth/v1_2_nanno")
    'there is no encoder "olmoearth/v1_2_nanno"; did you mean "olmoearth/v1_2_nano"?'
    """
    if name in PARAMETERS:
        return None
    return f'there is no encoder "{name}"' + (nearest(name, PARAMETERS) or f"; there are {', '.join(PARAMETERS)}")


def version_and_size(name: str) -> tuple[str, str]:
    """Return the version and the size of an encoder, as its package calls them.

    >>> version_and_size("olmoearth/v1_2_nano")
    ('v1.2', 'nano')
    """
    version, _, size = name.removeprefix(PREFIX).rpartition("_")
    return version.replace("_", "."), size


def hub_id(name: str) -> str:
    """Return the repository of the weights on the Hugging Face hub.

    >>> hub_id("olmoearth/v1_2_nano")
    'allenai/OlmoEarth-v1_2-Nano'
    """
    version, _, size = name.removeprefix(PREFIX).rpartition("_")
    return f"allenai/OlmoEarth-{version}-{size.capitalize()}"
