"""The named losses, declared once: description, arguments, and the class that computes each.

The project file, its schema and its documentation, the checks of `loss_args` and the training all read these
declarations. A new loss is one entry here and one class in `rvbuild.learn.losses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rvbuild.project.tasks import arguments as numbers
from rvbuild.project.tasks.arguments import Argument


@dataclass(frozen=True)
class LossSpec:
    """A loss.

    Attributes
    ----------
    name : str
        The name in project files.
    factory : str
        The class that computes it, as `module:name`: called with the class weights and the arguments, it returns a
        `rvbuild.learn.losses.points.Loss`.
    about : str
        How it differs from other losses, for the documentation; empty for the default.
    arguments : mapping
        The valid keys of `loss_args`.
    not_all_zero : tuple of str
        Arguments that must not all be 0, because nothing would be learnt.
    of_regions : bool
        Whether it compares regions; only for tasks with a class for each pixel.
    """

    name: str
    factory: str
    about: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    not_all_zero: tuple[str, ...] = ()
    of_regions: bool = False

    def problems(self, args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield (name, message) for each problem of the arguments of a project."""
        yield from numbers.problems(self.name, self.arguments, args)
        if self.not_all_zero and not any(self.value(name, args) for name in self.not_all_zero):
            yield self.not_all_zero[-1], f"{' and '.join(self.not_all_zero)} are both 0, so nothing would be learnt"

    def value(self, name: str, args: Mapping[str, Any]) -> Any:
        """Return the value of an argument in a project, or its default."""
        return args.get(name, self.arguments[name].default)

    def not_default(self, args: Mapping[str, Any]) -> dict[str, float]:
        """Return the arguments that differ from their defaults, in canonical form."""
        return numbers.not_default(self.arguments, args)

    def with_defaults(self, args: Mapping[str, Any]) -> dict[str, float]:
        """Return all arguments, with the defaults filled in."""
        return numbers.with_defaults(self.arguments, args)


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
"""The losses of a task with a class for each pixel."""

OF_CHIPS = tuple(name for name, loss in LOSSES.items() if not loss.of_regions)
"""The losses of a task with one class for each chip."""


def described() -> str:
    """Return the names and descriptions of the losses, for the documentation."""
    texts = {loss.name: f"{loss.name} ({loss.about})" if loss.about else loss.name for loss in LOSSES.values()}
    regions = ", ".join(text for name, text in texts.items() if LOSSES[name].of_regions)
    return f"{', '.join(texts[name] for name in OF_CHIPS)}; for tasks with a class for each pixel also {regions}"


def described_arguments() -> str:
    """Return the arguments of the losses, as sentences for the documentation."""
    return " ".join(numbers.described(loss.name, loss.arguments) for loss in LOSSES.values() if loss.arguments)
