"""Random changes of training chips, the same for the same (seed, epoch, chip) in any process.

`rvbuild.project.tasks.augmentations` declares those with a name and their arguments. The user's own,
`package.module:function`, is called as `function(sample, rng, **arguments)`, with `{"image": (C, H, W) tensor in the
source dtype, "labels": ...}` (the task's targets) and a numpy Generator; it returns the changed sample of the same
shapes and dtypes.

Turned chips are views: nothing is computed, the batch copies turned pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rvbuild.errors import ModelError, RvbuildError, nearest
from rvbuild.language.user_code import load_object
from rvbuild.learn.chips import radiometry
from rvbuild.learn.chips.geometry import Geometry
from rvbuild.learn.chips.radiometry import Radiometry, as_tensor
from rvbuild.learn.device import seed_cpu
from rvbuild.learn.hooks import Sample, TargetOps
from rvbuild.project.tasks.augmentations import AUGMENTATIONS, MIXING, NAMES
from rvbuild.settings.normalize import NormalizeSettings

Step = Callable[[Sample, np.random.Generator], Sample]
Change = Callable[[Sample, np.random.Generator, Mapping[str, float]], Sample]

Args = Mapping[str, Mapping[str, Any]]
"""Arguments by the name of the augmentation."""


class Augmenter:
    """Applies augmentations in the order of their names, but for those that need a batch.

    Parameters
    ----------
    names
        `train.augment`.
    normalize
        The `normalize` entry of the model, with the range of values.
    dtype
        Of the chips, for example `"uint8"`.
    bands
        Of the chips.
    ops
        What is done to the targets of the task.
    args
        `train.augment_args`; defaults are filled in.
    """

    def __init__(
        self,
        names: Sequence[str],
        normalize: NormalizeSettings,
        dtype: str,
        bands: int,
        ops: TargetOps,
        args: Args | None = None,
    ) -> None:
        self._arguments = (tuple(names), normalize, dtype, bands, ops, args)
        geometry, values = Geometry(ops), Radiometry(normalize, bands)
        self._changes: Mapping[str, Change] = {
            "flip": geometry.flip,
            "rotate90": geometry.rotate90,
            "crop": geometry.crop,
            "scale": geometry.scale,
            "brightness": values.brightness,
            "contrast": values.contrast,
            "gamma": values.gamma,
            "blur": values.blur,
            "noise": values.noise,
            "band_drop": radiometry.band_drop,
            "saturation": radiometry.saturation,
            "hue": radiometry.hue,
        }
        alone = [name for name in names if name not in MIXING]
        self._steps = [self._step(name, (args or {}).get(name, {}), dtype, bands) for name in alone]
        self.own_code = any(":" in name for name in names)
        """Whether user functions are called, which may draw from global random generators."""

    def __reduce__(self) -> tuple[Any, ...]:
        # User functions are imported again in a loader process.
        return (Augmenter, self._arguments)

    def __call__(self, sample: Sample, seed: Sequence[int]) -> Sample:
        """Return a changed sample; `seed` decides everything."""
        rng = np.random.default_rng(list(seed))
        if self.own_code:
            seed_cpu(int(rng.integers(2**63)))
        for step in self._steps:
            sample = step(sample, rng)
        return sample

    def _step(self, name: str, own: Mapping[str, Any], dtype: str, bands: int) -> Step:
        if ":" in name:
            function = load_object(name, "train.augment")
            return lambda sample, rng: _own(function, name, own, sample, rng)
        if name not in self._changes:
            raise ModelError(
                f'train.augment: there is no augmentation "{name}"{nearest(name, NAMES)}; expected {", ".join(NAMES)}, '
                f'or "package.module:function"'
            )
        if problem := AUGMENTATIONS[name].misfit(dtype, bands):
            raise ModelError(f"train.augment: {problem}")
        change, args = self._changes[name], AUGMENTATIONS[name].with_defaults(own)
        return lambda sample, rng: change(sample, rng, args)


def _own(
    function: Callable[..., Any], name: str, own: Mapping[str, Any], sample: Sample, rng: np.random.Generator
) -> Sample:
    given = {"image": sample.image, **sample.target}
    try:
        result = function({key: as_tensor(value) for key, value in given.items()}, rng, **own)
    except RvbuildError:
        raise
    except Exception as error:
        raise ModelError(f'train.augment: "{name}" failed: {type(error).__name__}: {error}') from error
    if not isinstance(result, dict) or set(result) != set(given):
        raise ModelError(f'train.augment: "{name}" must return a dict with {", ".join(given)}; found {result!r:.200}')
    arrays = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in result.items()}
    image, before = arrays.pop("image"), sample.image
    if image.dtype != before.dtype or image.shape != before.shape:
        raise ModelError(
            f'train.augment: "{name}" must keep the image {before.dtype} {before.shape}; found {image.dtype} '
            f"{image.shape}"
        )
    return replace(sample, image=image, target=arrays)
