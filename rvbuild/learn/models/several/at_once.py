"""Networks that share nothing, computed at the same time: each in a thread of its own, with its part of the threads.

Small networks do not fill the cores: two that compute side by side on a core each take two thirds of the time that they
take one after the other on both. Results are those of the networks one after the other, each with as many threads as
it has here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from rvbuild.process.threads import map_threads


def workers(count: int, images: torch.Tensor) -> int:
    """Return how many of `count` networks compute at the same time; 1 if it must be one after the other.

    Parameters
    ----------
    count
        Of networks.
    images
        Their input. A GPU is filled by one network. A graph that is exported has no threads.
    """
    if images.device.type != "cpu" or images.requires_grad or _is_traced():
        return 1
    return max(1, min(count, torch.get_num_threads()))


def computed(compute: Callable[[int], torch.Tensor], costs: Sequence[float], at_once: int) -> list[torch.Tensor]:
    """Return the results of networks, whose gradients are computed at the same time as well.

    Parameters
    ----------
    compute
        Returns the result of a network by its number. Results share no parameters, and only those have gradients.
    costs
        Of each network: the most expensive start first.
    at_once
        See `workers`.
    """
    if at_once == 1:
        return [compute(number) for number in range(len(costs))]
    results = _map(compute, costs, at_once)
    if not any(result.requires_grad for result in results):
        return results
    anchor = torch.zeros((), requires_grad=True)
    return list(_Joined.apply(anchor, results, costs, at_once))


class _Joined(torch.autograd.Function):
    """Passes results on; the gradients of each are computed in a thread of its own.

    A single backward pass on a CPU computes in one thread, whatever its parts share.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: torch.Tensor, results: list[torch.Tensor], costs: Sequence[float], at_once: int
    ) -> tuple[torch.Tensor, ...]:
        """Return the results; `anchor` has gradients, so that they have."""
        ctx.results, ctx.costs, ctx.at_once = results, costs, at_once
        return tuple(result.detach() for result in results)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, None, None]:
        """Add the gradients of the parameters of all networks to these."""

        def backward(number: int) -> None:
            if ctx.results[number].requires_grad:
                torch.autograd.backward(ctx.results[number], gradients[number])

        _map(backward, ctx.costs, ctx.at_once)
        return None, None, None, None


def _map(function: Callable[[int], Any], costs: Sequence[float], at_once: int) -> list[Any]:
    """Return the results of `function` for the numbers of all `costs`; each thread has its part of torch's threads."""
    threads = torch.get_num_threads()
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    half, precision = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def in_thread(number: int) -> Any:
        torch.set_num_threads(threads // at_once)  # of this thread
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", precision, enabled=half),
        ):
            return function(number)

    order = sorted(range(len(costs)), key=lambda number: -costs[number])
    try:
        results = map_threads(in_thread, order, at_once)
    finally:
        torch.set_num_threads(threads)  # of new threads
    return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]


def _is_traced() -> bool:
    """Tell whether a graph is made of the operations, which those of other threads would not be in."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
