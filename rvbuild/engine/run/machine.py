"""The machine as a pool of cores, memory and GPUs, which jobs hold while they run.

A job takes all of its resources at once, or waits without holding any, so there are no deadlocks. A job that needs
more than the machine has runs alone. The number of parallel jobs does not affect results: a job always uses its own
number of threads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rvbuild.cores import CARD_VARIABLE, cores, thread_count
from rvbuild.engine.keys.artifact import Demand

_CHECK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Share:
    """The resources of a job: cores, bytes of memory, and the numbers of its GPUs, if it has some."""

    cores: int
    memory: int
    cards: tuple[int, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that assign the job its resources."""
        return {CARD_VARIABLE: ",".join(map(str, self.cards))} if self.cards else {}


@dataclass
class Machine:
    """The cores, the memory and the GPUs that jobs of this process may use.

    Attributes
    ----------
    cores
        Number of cores.
    memory
        Bytes; None if unknown, and then memory is not counted.
    cards
        Number of GPUs that CUDA offers.
    """

    cores: int
    memory: int | None
    cards: int
    _held: list[Share] = field(default_factory=list)
    _free: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def taking(
        self, demand: Demand, stopped: Callable[[], bool], waits: Callable[[], None] = lambda: None
    ) -> Iterator[Share]:
        """Hold the resources of `demand`; wait until they are available, or until `stopped` ends the run.

        `waits` is called once if they are not available at first.
        """
        if demand == Demand():
            yield Share(0, 0)
            return
        notified = False
        with self._free:
            while (share := self._share(demand)) is None and not stopped():
                if not notified:
                    notified = True
                    waits()
                self._free.wait(_CHECK_EVERY_S)
            share = share or Share(0, 0)
            self._held.append(share)
        try:
            yield share
        finally:
            with self._free:
                self._held.remove(share)
                self._free.notify_all()

    def _share(self, demand: Demand) -> Share | None:
        """Return the resources that a job would get now; None if it has to wait."""
        share = self._wanted(demand)
        if share is None or not self._held:
            return share
        used = sum(held.cores for held in self._held)
        memory = sum(held.memory for held in self._held)
        enough = self.memory is None or memory + share.memory <= self.memory
        return share if used + share.cores <= self.cores and enough else None

    def _wanted(self, demand: Demand) -> Share | None:
        """Return the resources of `demand` on this machine; None if all suitable GPUs are in use."""
        kind, _, number = demand.device.partition(":")
        if kind == "cpu" or not self.cards:
            threads = thread_count() if demand.cores is None else demand.cores
            return Share(demand.processes * threads, demand.processes * demand.memory)
        in_use = {card for held in self._held for card in held.cards}
        # If the GPU does not exist, or there are too few, the stage reports that.
        wanted = [int(number)] if number else range(self.cards)
        count = min(demand.processes, len(wanted))
        free = [card for card in wanted if card not in in_use][:count]
        return Share(min(count, self.cores), 0, tuple(free)) if len(free) == count else None


UNLIMITED = Machine(sys.maxsize, None, 0)
"""A machine that has enough for everything, where something else shares resources."""


def this_machine(memory: int | None = None) -> Machine:
    """Return the resources of this process: its cores, `memory` bytes, and the GPUs that CUDA offers it."""
    return Machine(cores(), memory, card_count())


def card_count(environ: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> int:
    """Return the number of GPUs that torch would offer, without importing it: none if it was built without CUDA.

    Parameters
    ----------
    environ
        `CUDA_VISIBLE_DEVICES` may hide some.
    devices
        Directory in which the driver has a file `nvidia0`, `nvidia1` and so on for each GPU.
    """
    try:
        present = sum(re.fullmatch(r"nvidia\d+", entry.name) is not None for entry in devices.iterdir())
    except OSError:
        return 0
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    count = present if visible is None else _visible(visible, present)
    return count if count and _torch_has_cuda() else 0


def _visible(text: str, present: int) -> int:
    """Return the number of GPUs in `CUDA_VISIBLE_DEVICES`: CUDA stops at the first invalid entry."""
    count = 0
    for entry in map(str.strip, text.split(",")):
        if not (entry.startswith(("GPU-", "MIG-")) or (entry.isdecimal() and int(entry) < present)):
            break
        count += 1
    return count if present else 0


def _torch_has_cuda() -> bool:
    """Tell whether the installed torch was built for CUDA; read from a file, because the import takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    match = re.search(r"^cuda\b[^=]*=\s*(.+)$", text, re.MULTILINE)
    return match is not None and match.group(1).strip() != "None"
