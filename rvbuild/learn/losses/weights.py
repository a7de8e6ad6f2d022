"""The weights of classes in a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rvbuild.errors import DataError, ModelError, nearest


def class_weights(
    setting: str | Mapping[str, float], names: Sequence[str], counts: Sequence[int] | np.ndarray
) -> list[float] | None:
    """Return a weight per output, or None for equal weights.

    Parameters
    ----------
    setting
        `"none"`, `"balanced"`, or weights by class name; classes that are not named weigh 1. Balanced is
        total / (present classes * count), so that every class weighs the same in sum; a class that never occurs has 0.
    names
        The classes in the order of the outputs.
    counts
        How often each occurs in the training chips.
    """
    if setting == "none":
        return None
    if setting == "balanced":
        total, present = sum(int(n) for n in counts), sum(1 for n in counts if n > 0)
        return [total / (present * int(n)) if n > 0 else 0.0 for n in counts]
    if isinstance(setting, str):
        raise ModelError(
            f'train.class_weights: expected "none", "balanced" or weights by class, found "{setting}"'
            f"{nearest(setting, ('none', 'balanced'))}"
        )
    for name, weight in setting.items():
        if name not in names:
            raise ModelError(f'train.class_weights: there is no class "{name}"{nearest(name, names)}')
        if not weight >= 0:
            raise ModelError(f"train.class_weights.{name}: expected a number of at least 0, found {weight!r}")
    weights = [float(setting.get(name, 1.0)) for name in names]
    if not any(weight > 0 and count > 0 for weight, count in zip(weights, counts, strict=True)):
        raise DataError("train.class_weights: every class that the training chips have weighs 0; nothing can be learnt")
    return weights
