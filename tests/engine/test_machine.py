"""Jobs share the machine: what they need is there while they run, nobody waits for ever, nothing is taken twice."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.engine.keys.artifact import Demand, Resource
from rvbuild.engine.run import machine as machines
from rvbuild.engine.run.machine import Machine, card_count
from rvbuild.errors import UsageError
from tests.engine.conftest import Space


class Crowd:
    """Runs jobs in threads and takes down which of them ran at once, and what they held."""

    def __init__(self, machine: Machine, demands: list[Demand], hold_s: float = 0.0) -> None:
        self.now: dict[int, machines.Share] = {}
        self.seen: list[dict[int, machines.Share]] = []
        lock = threading.Lock()

        def work(number: int) -> None:
            with machine.taking(demands[number], lambda: False) as share:
                with lock:
                    self.now[number] = share
                    self.seen.append(dict(self.now))
                time.sleep(hold_s)
                with lock:
                    del self.now[number]

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(demands))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.ended = not any(thread.is_alive() for thread in threads)

    def most(self) -> int:
        return max(map(len, self.seen))


def test_as_many_run_at_once_as_there_are_cores_for() -> None:
    assert Crowd(Machine(4, None, 0), [Demand(cores=1)] * 6, 0.05).most() == 4
    assert Crowd(Machine(4, None, 0), [Demand(cores=2)] * 4, 0.05).most() == 2
    assert Crowd(Machine(4, None, 0), [Demand(cores=3)] * 3, 0.02).most() == 1


def test_what_takes_all_cores_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RVBUILD_THREADS", raising=False)
    monkeypatch.setattr(machines, "thread_count", lambda: 4)
    assert Crowd(Machine(4, None, 0), [Demand(cores=None)] * 3, 0.02).most() == 1


def test_threads_of_the_environment_decide_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    assert Crowd(Machine(2, None, 0), [Demand(cores=None)] * 4, 0.05).most() == 2
    monkeypatch.setenv("RVBUILD_THREADS", "two")
    with (
        pytest.raises(UsageError, match="RVBUILD_THREADS: expected"),
        Machine(2, None, 0).taking(Demand(cores=None), bool),
    ):
        pass


def test_memory_bounds_them_too() -> None:
    assert Crowd(Machine(8, 100, 0), [Demand(cores=1, memory=40)] * 5, 0.05).most() == 2


def test_what_needs_more_than_there_is_runs_alone() -> None:
    crowd = Crowd(Machine(2, 100, 0), [Demand(cores=9, memory=500), Demand(cores=1), Demand(cores=1)], 0.02)
    assert crowd.ended
    assert all(len(now) == 1 for now in crowd.seen if 0 in now)


def test_what_computes_in_one_thread_waits_for_nobody() -> None:
    machine = Machine(1, None, 0)
    with machine.taking(Demand(cores=1), bool), machine.taking(Demand(), bool), machine.taking(Demand(), bool):
        pass


def test_each_card_has_one_job() -> None:
    crowd = Crowd(Machine(8, None, 2), [Demand(cores=None, device="auto")] * 5, 0.05)
    assert crowd.most() == 2
    assert all(sorted(s.cards for s in now.values()) in ([(0,)], [(1,)], [(0,), (1,)]) for now in crowd.seen)
    named = Crowd(Machine(8, None, 3), [Demand(device="cuda:1")] * 3, 0.02)
    assert named.most() == 1 and all(s.cards == (1,) for now in named.seen for s in now.values())
    assert named.seen[0][next(iter(named.seen[0]))].environment() == {"RVBUILD_CARD": "1"}


def test_a_job_of_several_processes_needs_what_as_many_jobs_do() -> None:
    with Machine(8, 100, 0).taking(Demand(cores=2, memory=10, processes=3), bool) as share:
        assert (share.cores, share.memory) == (6, 30)
    with Machine(8, None, 4).taking(Demand(device="auto", processes=3), bool) as share:
        assert share.cards == (0, 1, 2)
    assert Crowd(Machine(8, 100, 0), [Demand(cores=1, memory=20, processes=2)] * 4, 0.05).most() == 2


def test_a_card_that_there_is_not_is_for_the_stage_to_refuse() -> None:
    with Machine(2, None, 2).taking(Demand(device="cuda:7"), bool) as share:
        assert share.cards == (7,)
    with Machine(2, None, 0).taking(Demand(cores=1, device="cuda"), bool) as share:
        assert share.cards == () and share.environment() == {}


def test_who_waits_leaves_when_the_run_is_stopped() -> None:
    machine = Machine(1, None, 0)
    stopped = threading.Event()
    waiting = threading.Event()
    left = threading.Event()

    def wait() -> None:
        with machine.taking(Demand(cores=1), stopped.is_set, waiting.set):
            left.set()

    with machine.taking(Demand(cores=1), bool):
        threading.Thread(target=wait, daemon=True).start()
        assert waiting.wait(5) and not left.is_set()
        stopped.set()
        assert left.wait(5)


demands = st.builds(
    Demand,
    cores=st.one_of(st.none(), st.integers(0, 6)),
    memory=st.integers(0, 120),
    device=st.sampled_from(["cpu", "cpu", "auto", "cuda", "cuda:0", "cuda:1", "cuda:5"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(demands, min_size=1, max_size=12), st.integers(1, 4), st.sampled_from([None, 100]), st.integers(0, 2))
def test_whatever_jobs_ask_for_all_run_and_none_takes_what_another_has(
    wanted: list[Demand], cores: int, memory: int | None, cards: int
) -> None:
    crowd = Crowd(Machine(cores, memory, cards), wanted)
    assert crowd.ended
    for now in crowd.seen:
        held = [share for number, share in now.items() if wanted[number] != Demand()]
        if len(held) > 1:
            assert sum(share.cores for share in held) <= cores
            assert memory is None or sum(share.memory for share in held) <= memory
            on_cards = [card for share in held for card in share.cards]
            assert len(on_cards) == len(set(on_cards))


def test_cards_are_those_that_cuda_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_torch_has_cuda", lambda: True)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()

    def count(visible: str | None) -> int:
        return card_count({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}, tmp_path)

    assert [count(None), count("0,2"), count("2"), count(""), count("-1"), count("0,9,1"), count("GPU-ab, MIG-cd")] == [
        *(3, 2, 1, 0, 0, 1, 2)
    ]
    assert card_count({}, tmp_path / "none") == 0
    monkeypatch.setattr(machines, "_torch_has_cuda", lambda: False)
    assert count(None) == 0


@pytest.mark.parametrize(("line", "expected"), [("cuda: Optional[str] = '13.0'", True), ("cuda = None", False)])
def test_a_torch_without_cuda_has_no_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: bool
) -> None:
    (tmp_path / "version.py").write_text(f"__version__ = '2'\n{line}\nhip = None\n")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert machines._torch_has_cuda() is expected


MEETING = '''
def meet(inputs, settings, outputs, progress):
    """Wait for another of these to begin, or a while; say when this one began and ended, and which card it has."""
    import os, time
    from pathlib import Path
    began = time.monotonic()
    here = Path(settings["here"])
    (here / settings["name"]).touch()
    while len(list(here.iterdir())) < 2 and time.monotonic() < began + settings["patience"]:
        time.sleep(0.01)
    (outputs / "out.txt").write_text(f"{began} {time.monotonic()} {os.environ.get('RVBUILD_CARD')}")
'''


class Meeting(Space):
    """Two artifacts that take something of the machine, each of which waits a while for the other to begin."""

    def __init__(self, root: Path, demand: Demand, patience_s: float) -> None:
        super().__init__(root, pool=True)
        self.demand = demand
        self.patience_s = patience_s
        (root / "fakestages.py").write_text(MEETING)
        (root / "here").mkdir()

    def artifacts(self) -> list:
        upper = super().artifacts()[:2]
        return [
            dataclasses.replace(
                name,
                run="fakestages:meet",
                inputs=(),
                resource=Resource.TORCH,
                demand=self.demand,
                settings={"here": str(self.root / "here"), "name": name.scene, "patience": self.patience_s},
            )
            for name in upper
        ]

    def meet(self, machine: Machine) -> tuple[bool, list[str]]:
        """Build both; return whether they ran at once, and the cards that they had."""
        opened = self.opened

        def with_machine(forced: frozenset[str] = frozenset()):
            space = opened(forced)
            space[2]._machine = machine
            return space

        self.opened = with_machine
        done = self.run("upper:p:a", "upper:p:b", jobs=4)
        assert set(done.values()) == {"built"}, self.outcomes
        lines = [(self.root / f"cache/p/upper/{name}/out.txt").read_text().split() for name in "ab"]
        (begin_a, end_a, card_a), (begin_b, end_b, card_b) = lines
        return max(float(begin_a), float(begin_b)) < min(float(end_a), float(end_b)), sorted([card_a, card_b])


@pytest.mark.slow
def test_stages_run_side_by_side_where_there_is_room(tmp_path: Path) -> None:
    assert Meeting(tmp_path / "a", Demand(cores=1), 100).meet(Machine(2, None, 0)) == (True, ["None", "None"])
    assert Meeting(tmp_path / "b", Demand(cores=2), 0.2).meet(Machine(2, None, 0)) == (False, ["None", "None"])


@pytest.mark.slow
def test_stages_are_told_which_card_is_theirs(tmp_path: Path) -> None:
    anywhere = Demand(cores=None, device="auto")
    assert Meeting(tmp_path / "a", anywhere, 100).meet(Machine(2, None, 2)) == (True, ["0", "1"])
    assert Meeting(tmp_path / "b", anywhere, 0.2).meet(Machine(2, None, 1)) == (False, ["0", "0"])
