"""The losses that have a name, declared once: what each minimises, what it takes, and the class that computes it.

The project file, its schema and its documentation, the checks of `loss_args` and the training all read these
declarations. A new loss is one entry here and one class in `rvbuild.learn.losses`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rvbuild.errors import nearest
from rvbuild.project.toml.keys import show


@dataclass(frozen=True)
class Argument:
    """A number that a loss takes.

    Attributes
    ----------
    default : float
        Its value if the project does not give it. It is in no key of an artifact: a change of it is a change of what
        the loss computes.
    about : str
        What it does, for the documentation.
    below : float
        What it must be less than; it must be at least 0.
    """

    default: float
    about: str
    below: float = math.inf

    @property
    def range(self) -> str:
        """The values that are allowed, in words."""
        return "a number of at least 0" if math.isinf(self.below) else f"a number from 0 to less than {self.below:g}"

    def allows(self, value: object) -> bool:
        """Tell whether a value is a number in the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < self.below


@dataclass(frozen=True)
class LossSpec:
    """A loss.

    Attributes
    ----------
    name : str
        As a project names it.
    factory : str
        The class that computes it, as `module:name`: called with the class weights and the arguments, it returns a
        `rvbuild.learn.losses.points.Loss`.
    about : str
        What tells it from others, for the documentation; empty for the one that needs no words.
    arguments : mapping
        What `loss_args` may hold.
    not_all_zero : tuple of str
        Arguments of which one must not be 0, or nothing would be learnt.
    of_regions : bool
        Whether it compares regions, so that only a task with a class for each pixel can use it.
    """

    name: str
    factory: str
    about: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    not_all_zero: tuple[str, ...] = ()
    of_regions: bool = False

    def problems(self, args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the arguments of a project, each with the name of the argument."""
        for name, value in args.items():
            argument = self.arguments.get(name)
            if argument is None:
                hint = nearest(name, self.arguments) or f"; it takes {', '.join(self.arguments) or 'no arguments'}"
                yield name, f'"{self.name}" has no such argument{hint}'
            elif not argument.allows(value):
                yield name, f"expected {argument.range}, found {show(value)}"
        if self.not_all_zero and not any(self.value(name, args) for name in self.not_all_zero):
            yield self.not_all_zero[-1], f"{' and '.join(self.not_all_zero)} are both 0, so nothing would be learnt"

    def value(self, name: str, args: Mapping[str, Any]) -> Any:
        """Return an argument of a project, or its default."""
        return args.get(name, self.arguments[name].default)

    def not_default(self, args: Mapping[str, Any]) -> dict[str, float]:
        """Return the arguments of a project that are not at their defaults, each in its one spelling."""
        return {name: float(value) for name, value in args.items() if value != self.arguments[name].default}

    def with_defaults(self, args: Mapping[str, Any]) -> dict[str, float]:
        """Return all arguments, with the defaults filled in."""
        return {name: float(self.value(name, args)) for name in self.arguments}


_POINTS, _REGIONS = "rvbuild.learn.losses.points", "rvbuild.learn.losses.regions"

_SMOOTH = Argument(0.0, "added to numerator and denominator")

LOSSES: Mapping[str, LossSpec] = {
    loss.name: loss
    for loss in (
        LossSpec("cross_entropy", f"{_POINTS}:CrossEntropy", ""),
        LossSpec(
            "focal",
            f"{_POINTS}:Focal",
            "what is predicted well counts less",
            {"gamma": Argument(2.0, "how much less; 0 is cross_entropy")},
        ),
        LossSpec(
            "label_smoothing",
            f"{_POINTS}:LabelSmoothing",
            "targets leave some probability to the other classes",
            {"smoothing": Argument(0.1, "the probability that is spread evenly over all classes", below=1)},
        ),
        LossSpec(
            "dice",
            f"{_REGIONS}:Dice",
            "1 - Dice coefficient, which is F1",
            {"smooth": _SMOOTH},
            of_regions=True,
        ),
        LossSpec(
            "tversky",
            f"{_REGIONS}:Tversky",
            "as dice, with weights of false positives and false negatives",
            {
                "alpha": Argument(0.5, "weight of false positives"),
                "beta": Argument(0.5, "weight of false negatives"),
                "smooth": _SMOOTH,
            },
            not_all_zero=("alpha", "beta"),
            of_regions=True,
        ),
        LossSpec("lovasz", f"{_REGIONS}:Lovasz", "Lovász-Softmax, a surrogate of 1 - IoU", of_regions=True),
        LossSpec(
            "dice_cross_entropy",
            f"{_REGIONS}:DiceCrossEntropy",
            "their weighted sum",
            {
                "lambda_dice": Argument(1.0, "weight of dice"),
                "lambda_ce": Argument(1.0, "weight of cross_entropy"),
                "smooth": _SMOOTH,
            },
            not_all_zero=("lambda_dice", "lambda_ce"),
            of_regions=True,
        ),
    )
}
"""The losses by name; the first is the default."""

OF_PIXELS = tuple(LOSSES)
"""The losses of a task that gives each pixel a class."""

OF_CHIPS = tuple(name for name, loss in LOSSES.items() if not loss.of_regions)
"""The losses of a task that gives each chip one class."""


def described() -> str:
    """Return the names of the losses, each with what tells it from others, for the documentation."""
    texts = {loss.name: f"{loss.name} ({loss.about})" if loss.about else loss.name for loss in LOSSES.values()}
    regions = ", ".join(text for name, text in texts.items() if LOSSES[name].of_regions)
    return f"{', '.join(texts[name] for name in OF_CHIPS)}; for tasks with a class for each pixel also {regions}"


def described_arguments() -> str:
    """Return what the losses take, as sentences for the documentation."""
    sentences = []
    for loss in LOSSES.values():
        items = (f"{name} = {argument.default:g} ({argument.about})" for name, argument in loss.arguments.items())
        if loss.arguments:
            sentences.append(f"{loss.name}: {', '.join(items)}.")
    return " ".join(sentences)
