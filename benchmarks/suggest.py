"""What to label next, simulated: how many labelled windows a draft needs, in the order that `rvbuild suggest` suggests.

Each simulation begins with two random labelled windows of the training scenes. Then a strategy chooses the next ones
from features and from the labels revealed so far, the draft is solved again, and compared with the validation scenes.
`python -m benchmarks.suggest` draws the curves of `docs/suggest.md` and prints its table. It needs `make data`, and
takes half an hour.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.bar import Cost, Figure, cpu
from benchmarks.label_curves import draw
from benchmarks.pools import ATLANTA, CROWNS, POTSDAM, ROOT, DataSet, Pool, load
from rvbuild.learn.linear.head import Head
from rvbuild.review.suggest.choose import choose

SEEDS = range(5)
"""Published; other ones were used to choose the strategy."""

START = 2
"""Random windows that are labelled at first."""

ENOUGH, IN_A_ROW = 0.95, 3
"""The share of the IoU of all labels that is enough, if this many results in a row reach it."""

BAR = 0.7


class Setting(NamedTuple):
    """A data set with its simulation."""

    data: DataSet
    window_px: int
    at_once: int
    """Windows that are labelled before the draft is solved again."""
    most: int
    """Labelled windows at the end."""


SETTINGS = (
    Setting(CROWNS, 128, 6, 122),
    Setting(ATLANTA, 64, 6, 122),
    Setting(POTSDAM, 128, 1, 16),
)

Reals = npt.NDArray[np.float64]


class State(NamedTuple):
    """What a strategy may know."""

    pool: Pool
    head: Head
    pixels: npt.NDArray[np.int64]
    """Labelled ones of each class."""
    chosen: list[int]
    left: list[int]
    random: np.random.Generator


def by_chance(state: State, count: int) -> list[int]:
    return state.random.permutation(state.left)[:count].tolist()


def by(measure: Callable[[Reals], Reals]) -> Callable[[State, int], list[int]]:
    """Return the strategy that takes the windows whose cells have most of a measure of probabilities (cells, K)."""

    def choose_them(state: State, count: int) -> list[int]:
        features = state.pool.features[state.left]
        scores = state.head.scores(features.reshape(-1, features.shape[2])).astype(np.float64)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        values = measure(powers / powers.sum(axis=1, keepdims=True)).reshape(features.shape[:2])
        worth = (values * state.pool.pixels[state.left]).sum(axis=1)
        order = np.lexsort((state.random.permutation(len(worth)), -worth))  # ties by chance
        return [state.left[number] for number in order[:count]]

    return choose_them


def entropy(shares: Reals) -> Reals:
    return -(shares * np.log(shares + 1e-12)).sum(axis=1)


def margin(shares: Reals) -> Reals:
    if shares.shape[1] == 1:
        return np.zeros(len(shares))
    top = np.sort(shares, axis=1)
    return 1 - (top[:, -1] - top[:, -2])


def core_set(state: State, count: int) -> list[int]:
    """Return the windows farthest from all labelled ones, by plain means of features."""
    everything = [*state.left, *state.chosen]
    means = state.pool.measured(everything, None).means.astype(np.float64)
    points, known = means[: len(state.left)], means[len(state.left) :]
    nearest = np.min([((points - each) ** 2).sum(axis=1) for each in known], axis=0)
    found: list[int] = []
    for _ in range(count):
        number = int(nearest.argmax())
        found.append(state.left[number])
        nearest = np.minimum(nearest, ((points - points[number]) ** 2).sum(axis=1))
        nearest[number] = -1
    return found


def suggested(state: State, count: int) -> list[int]:
    """Return what `rvbuild suggest` suggests."""
    ids = list(state.head.class_ids)
    head = state.head if len(ids) > 1 else None
    free = state.pool.measured(state.left, head)
    labelled = state.pool.measured(state.chosen, None)
    pixels = state.pixels[ids] if head is not None else state.pixels[:0]
    return [state.left[choice.number] for choice in choose(free, labelled, pixels, count)]


STRATEGIES: dict[str, Callable[[State, int], list[int]]] = {
    "random": by_chance,
    "entropy": by(entropy),
    "margin": by(margin),
    "core set": core_set,
    "suggest": suggested,
}
RUNS = {"random": 2}
"""For each seed, where a strategy is random itself."""


class Result(NamedTuple):
    """The simulations of a strategy."""

    counts: list[int]
    """Of labelled windows."""
    curves: list[list[float]]
    """The IoU at these counts, relative to that of all labels, of each simulation."""

    def needed(self) -> list[int]:
        """Return how many windows each simulation needed."""
        return [needed(self.counts, curve) for curve in self.curves]


def needed(counts: Sequence[int], curve: Sequence[float]) -> int:
    """Return the first of the counts from which on some results in a row are enough; the last if none is."""
    for place in range(len(counts) - IN_A_ROW + 1):
        if min(curve[place : place + IN_A_ROW]) >= ENOUGH:
            return counts[place]
    return counts[-1]


def simulated(pool: Pool, setting: Setting, strategy: str, seed: int, run: int, full: float) -> list[float]:
    """Return the IoU after each step, relative to that of all labels."""
    count = len(pool.sums)
    chosen = np.random.default_rng(seed).permutation(count)[:START].tolist()
    random = np.random.default_rng([seed, run])
    curve: list[float] = []
    while True:
        head, pixels = pool.solved(chosen)
        curve.append(pool.quality(head) / full)
        if len(chosen) + setting.at_once > min(setting.most, count):
            return curve
        left = sorted(set(range(count)) - set(chosen))
        state = State(pool, head, pixels, chosen, left, random)
        chosen = [*chosen, *STRATEGIES[strategy](state, setting.at_once)]


def compared(setting: Setting, folder: Path, seeds: Sequence[int] = SEEDS) -> dict[str, Result]:
    """Return the results of all strategies."""
    pool = load(setting.data, folder, setting.window_px)
    count = len(pool.sums)
    full = pool.quality(pool.solved(range(count))[0])
    counts = list(range(START, min(setting.most, count) + 1, setting.at_once))
    print(
        f"{setting.data.name}: {count} windows of {setting.window_px} px, IoU {full:.3f}", file=sys.stderr, flush=True
    )
    results: dict[str, Result] = {}
    for strategy in STRATEGIES:
        runs = [(seed, run) for seed in seeds for run in range(RUNS.get(strategy, 1))]
        curves = [simulated(pool, setting, strategy, seed, run, full) for seed, run in runs]
        results[strategy] = Result(counts, curves)
        print(f"  {strategy}: {results[strategy].needed()}", file=sys.stderr, flush=True)
    return results


def ratio(results: dict[str, Result], strategy: str) -> float:
    """Return the windows that a strategy needs, over those of random choice."""
    return statistics.mean(results[strategy].needed()) / statistics.mean(results["random"].needed())


def run(folder: Path) -> list[Figure]:
    figures = []
    for setting in SETTINGS:
        before = cpu()
        results = compared(setting, folder)
        cost = Cost("simulation", (cpu() - before) / sum(len(result.curves) for result in results.values()))
        means = {name: statistics.mean(result.needed()) for name, result in results.items()}
        note = ", ".join(f"{name} {mean:.0f}" for name, mean in means.items()) + " windows"
        title = f"suggest: windows for 95 % of the IoU of all, over random's; {setting.data.name}"
        figures.append(Figure(title, ratio(results, "suggest"), BAR, "", True, note, cost))
    return figures


def main() -> None:
    every: dict[str, dict[str, Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS:
            every[f"{setting.data.name}, {setting.window_px} px"] = compared(setting, Path(folder))
    (ROOT / "docs/images/suggest.svg").write_text(draw(every), encoding="utf-8")
    print(f"| | {' | '.join(every)} |\n|---|{'---:|' * len(every)}")
    for strategy in STRATEGIES:
        cells = [
            f"{statistics.mean(results[strategy].needed()):.0f} ({ratio(results, strategy):.2f})"
            for results in every.values()
        ]
        print(f"| {strategy} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
