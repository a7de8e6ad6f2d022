"""The named augmentations, declared once: description and arguments.

The project file, its schema and its documentation, the checks of `augment_args` and the training all read these
declarations. A new augmentation is one entry here and one function in `rvbuild.learn.chips`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rvbuild.errors import counted
from rvbuild.project.tasks import arguments as numbers
from rvbuild.project.tasks.arguments import Argument, Arguments


@dataclass(frozen=True)
class AugmentationSpec:
    """An augmentation.

    Attributes
    ----------
    name : str
        The name in project files.
    about : str
        What it does, for the documentation.
    arguments : mapping
        The valid keys of its table in `augment_args`.
    resizes : bool
        Whether it changes the size of objects.
    mixes : bool
        Whether it mixes each chip with another of its batch.
    of_colours : bool
        Whether it needs uint8 imagery of three bands.
    least_bands : int
        The bands that it needs.
    """

    name: str
    about: str
    arguments: Arguments = field(default_factory=dict)
    resizes: bool = False
    mixes: bool = False
    of_colours: bool = False
    least_bands: int = 1

    def misfit(self, dtype: str, bands: int) -> str:
        """Return why it cannot change imagery of a type and a number of bands; empty if it can."""
        if self.of_colours and (dtype != "uint8" or bands != 3):
            return (
                f'"{self.name}" needs uint8 imagery of three bands (red, green, blue), found {counted(bands, "band")} '
                f'of {dtype}; "brightness", "contrast" and "gamma" work for any imagery'
            )
        if bands < self.least_bands:
            return f'"{self.name}" needs imagery of {self.least_bands} bands or more, found {counted(bands, "band")}'
        return ""

    def problems(self, args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield (name, message) for each problem of the arguments of a project."""
        found = dict(numbers.problems(self.name, self.arguments, args))
        yield from found.items()
        if not found and {"min", "max"} <= set(self.arguments):
            values = self.with_defaults(args)
            if values["min"] > values["max"]:
                yield "min", f"{values['min']:g} is more than max = {values['max']:g}"

    def not_default(self, args: Mapping[str, Any]) -> dict[str, float]:
        """Return the arguments that differ from their defaults, in canonical form."""
        return numbers.not_default(self.arguments, args)

    def with_defaults(self, args: Mapping[str, Any]) -> dict[str, float]:
        """Return all arguments, with the defaults filled in."""
        return numbers.with_defaults(self.arguments, args)


def _probability(of: str = "a chip") -> Argument:
    return Argument(0.5, f"how likely {of} is changed", most=1)


_PER_BAND = Argument(0.2, "the part of it that is drawn for each band alone", most=1)

AUGMENTATIONS: Mapping[str, AugmentationSpec] = {
    spec.name: spec
    for spec in (
        AugmentationSpec("flip", "mirrored left to right, and top to bottom, each with probability 1/2"),
        AugmentationSpec("rotate90", "turned by 0, 1, 2 or 3 quarter turns"),
        AugmentationSpec(
            "crop",
            "a random part of the chip, enlarged to its size",
            {
                "min": Argument(0.5, "smallest side of the part, relative to the chip", least=0.1, most=1),
                "probability": _probability(),
            },
            resizes=True,
        ),
        AugmentationSpec(
            "scale",
            "everything larger (a random part) or smaller (with null around it) by a factor",
            {
                "min": Argument(0.75, "smallest factor", least=0.1, most=10),
                "max": Argument(1.5, "largest factor", least=0.1, most=10),
                "probability": _probability(),
            },
            resizes=True,
        ),
        AugmentationSpec(
            "brightness",
            "an offset to all values",
            {"offset": Argument(0.1, "largest, relative to the value range", most=1), "per_band": _PER_BAND},
        ),
        AugmentationSpec(
            "contrast",
            "the distance of values from the mean of their band, times 1 ± gain",
            {"gain": Argument(0.2, "largest", below=1), "per_band": _PER_BAND},
        ),
        AugmentationSpec(
            "gamma",
            "values from 0 to 1 of their range, to a power from 1 / (1 + gamma) to 1 + gamma",
            {"gamma": Argument(0.25, "largest", most=9), "per_band": _PER_BAND},
        ),
        AugmentationSpec(
            "blur",
            "a Gaussian blur",
            {
                "sigma_px": Argument(1.0, "largest standard deviation", least=0.1, most=20),
                "probability": _probability(),
            },
        ),
        AugmentationSpec(
            "noise",
            "Gaussian noise, independent for each pixel and band",
            {
                "std": Argument(0.03, "largest standard deviation, relative to the value range", most=1),
                "probability": _probability(),
            },
        ),
        AugmentationSpec(
            "band_drop",
            "single bands become null, but never all",
            {"probability": Argument(0.1, "of each band", below=1)},
            least_bands=2,
        ),
        AugmentationSpec(
            "saturation",
            "the saturation, times 1 ± factor; for three-band uint8 imagery only",
            {"factor": Argument(0.3, "largest", most=1)},
            of_colours=True,
        ),
        AugmentationSpec(
            "hue",
            "the hue, shifted on the colour circle; for three-band uint8 imagery only",
            {"shift": Argument(0.05, "largest part of the circle", most=0.5)},
            of_colours=True,
        ),
        AugmentationSpec(
            "cutmix",
            "a rectangle of another chip pasted with its labels; classes of chips are mixed by area",
            {
                "alpha": Argument(1.0, "of the beta distribution of the share of the chip", least=0.01, most=100),
                "probability": _probability(),
            },
            mixes=True,
        ),
        AugmentationSpec(
            "mixup",
            "the weighted mean of two chips, whose labels both count with these weights",
            {
                "alpha": Argument(0.2, "of the beta distribution of the weights", least=0.01, most=100),
                "probability": _probability(),
            },
            mixes=True,
        ),
    )
}
"""The augmentations by name."""

NAMES = tuple(AUGMENTATIONS)

MIXING = tuple(name for name, spec in AUGMENTATIONS.items() if spec.mixes)
"""Those that need a batch."""

OF_BOXES = tuple(name for name in NAMES if name not in MIXING)
"""The augmentations of a task whose labels cannot be mixed."""


def described() -> str:
    """Return the names and descriptions of the augmentations, for the documentation."""
    return "; ".join(f"{spec.name} ({spec.about})" for spec in AUGMENTATIONS.values())


def described_arguments() -> str:
    """Return the arguments of the augmentations, as sentences for the documentation."""
    return " ".join(numbers.described(s.name, s.arguments) for s in AUGMENTATIONS.values() if s.arguments)
