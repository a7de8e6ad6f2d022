"""The names of the bands of pretrained weights, and whether a project can name those of its imagery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rvbuild.errors import nearest
from rvbuild.project.networks import TIMM, olmoearth
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import REFERENCE, Finding, duplicates, no_effect

RGB = ("red", "green", "blue")
"""The bands of the weights of torchvision and timm."""


def check_bands(
    bands: Mapping[str, int],
    weights_bands: Sequence[str],
    model: str,
    encoder: str | None,
    pretrained: bool | str,
) -> Iterator[Finding]:
    """Find names of bands that the weights do not have, places that two bands share, and keys without effect.

    Parameters
    ----------
    bands, weights_bands, model, encoder
        Of `[train]`.
    pretrained
        Whether there are weights to start from, or their path.
    """
    yield from duplicates(tuple(weights_bands), "weights_bands")
    if encoder is not None and encoder.startswith(olmoearth.PREFIX):
        yield from _check_olmoearth(bands, weights_bands, encoder)
        return
    if weights_bands and not isinstance(pretrained, str):
        yield no_effect("weights_bands", "without a file of weights: those of packages know theirs", "pretrained")
    if not bands:
        if weights_bands:
            yield no_effect("weights_bands", "without bands", "bands")
        return
    if REFERENCE.fullmatch(model):
        yield no_effect("bands", f"with your own model {show(model)}", "model")
        return
    if isinstance(pretrained, str) and pretrained.lower().endswith(".zip"):
        yield no_effect("bands", "with the weights of a bundle, whose tensors are taken as they are", "pretrained")
        return
    if pretrained is False:
        yield no_effect("bands", "without pretrained weights", "pretrained", "model")
        return
    if encoder is None and not model.startswith(TIMM) and model in ("unet", "cnn"):
        yield no_effect("bands", f"with {show(model)}, which takes a file of weights as it is", "model")
        return
    known = tuple(weights_bands) or (RGB if pretrained is True else ())  # a file may state them itself
    yield from _check_names(bands, known)


def bands_settings(bands: Mapping[str, int], weights_bands: Sequence[str]) -> dict[str, object]:
    """Return the arguments of a model that name its bands; empty without names."""
    named: dict[str, object] = {"bands": dict(bands), "weights_bands": list(weights_bands)}
    return {key: value for key, value in named.items() if value}


def _check_olmoearth(bands: Mapping[str, int], weights_bands: Sequence[str], encoder: str) -> Iterator[Finding]:
    if weights_bands:
        yield no_effect("weights_bands", f"with {show(encoder)}, which knows its bands", "encoder")
    if not bands:
        message = (
            f"{show(encoder)} must know the bands of the imagery, for example bands = {{ B04 = 0, B03 = 1, B02 = 2 }}"
        )
        yield Finding(("bands",), f"{message}; it takes {', '.join(olmoearth.BANDS)} of Sentinel-2", (("encoder",),))
    yield from _check_names(bands, olmoearth.BANDS)


def _check_names(bands: Mapping[str, int], known: Sequence[str]) -> Iterator[Finding]:
    for name, place in bands.items():
        if known and name not in known:
            hint = nearest(name, known) or f"; expected {', '.join(known)}"
            yield Finding(("bands", name), f"the weights have no band {show(name)}{hint}")
        if (twin := next((other for other in bands if bands[other] == place), name)) != name:
            yield Finding(("bands", name), f"{place} is {show(twin)} already; each band has a place of its own")
