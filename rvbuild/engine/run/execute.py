"""Builds one artifact at a time, crash-safe: staged, checked, stored, put in place, and only then recorded.

The order makes it safe. A stage writes into its own directory. Its inputs are checked before it starts and after it
returns: if one changed meanwhile, even back and forth, nothing is stored. Outputs are moved into the store by rename,
then the action's record is written, then copies appear in the workspace by rename, then one transaction records the
artifact. After a kill before the action's record, the artifact is built again (training resumes); after a later kill,
the next run restores it.

Workspaces may share a store: a key is built under its lock, and a process that had to wait for it restores the result.
Locks are taken in a fixed order (key, trajectory, then resources of the machine or the store's lock), so there are no
deadlocks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from rvbuild.engine.keys.artifact import Artifact, Demand, trajectory
from rvbuild.engine.keys.packages import versions
from rvbuild.engine.plan import previous
from rvbuild.engine.plan.decide import State
from rvbuild.engine.plan.plan import Plan, Planned
from rvbuild.engine.run import live, placing
from rvbuild.engine.run.checkpoints import Checkpoints
from rvbuild.engine.run.inputs import Inputs
from rvbuild.engine.run.jobs import declared, job_of
from rvbuild.engine.run.machine import UNLIMITED, Machine, this_machine
from rvbuild.engine.run.made import Made, Making
from rvbuild.engine.run.outcome import Did, Outcome, Reporter
from rvbuild.engine.run.worker import Job, plain
from rvbuild.engine.run.workers import Executor, Interrupted
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.state import Record
from rvbuild.errors import RvbuildError, StageError, StoreError
from rvbuild.progress import Progress

NOT_REACHED = "not reached: the run stopped after a failure"


class Builder:
    """Brings artifacts up to date.

    Parameters
    ----------
    plan : Plan
    executor : Executor
    reporter : Reporter
    machine : Machine, optional
        Resources that stages share. Default: the cores and GPUs that this process may use.
    memory : mapping, optional
        Artifact name -> bytes that its stage needs, if known and not in its demand.
    staying : collection of str
        Stages whose results stay in the remote store if workers share no files with this machine.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        reporter: Reporter,
        machine: Machine | None = None,
        memory: Mapping[str, int] | None = None,
        staying: Collection[str] = (),
    ) -> None:
        self.plan = plan
        self.outcomes: dict[str, Outcome] = {}
        self._workspace = plan.workspace
        self._executor = executor
        self._reporter = reporter
        # A cluster knows what its workers have.
        self._machine = UNLIMITED if executor.is_elsewhere else machine or this_machine()
        self._memory = memory or {}
        self._staying = staying
        self._hosts: dict[str, str] = {}  # of artifacts that a cluster has built
        self._stopped = threading.Event()
        self._wanted: Counter[str] = Counter()  # keys that are being built here: two scenes may share an image
        self._counting = threading.Lock()

    def is_fresh(self, name: str) -> bool:
        """Tell whether there is nothing to do for `name`; if so, record the outcome."""
        planned = self.plan[name]
        state, record = planned.decision.state, planned.facts.record
        if state is State.RESTORABLE and self._stays(self.plan.artifacts[name]):
            record = None
        elif state is not State.FRESH:
            return False
        shown = tuple(o.path for o in record.outputs.values()) if record else ()
        self._done(Outcome(self.plan.artifacts[name], Did.FRESH, (), 0.0, planned.facts.key, shown))
        return True

    def to_do(self, names: Iterable[str]) -> list[Artifact]:
        """Return the stale artifacts among `names` and their dependencies, and all that depend on stale ones.

        The others are recorded as fresh.
        """
        to_do: dict[str, Artifact] = {}
        for artifact in self.plan.closure(names):
            if not to_do.keys().isdisjoint(artifact.needs()) or not self.is_fresh(artifact.name):
                to_do[artifact.name] = artifact
        return list(to_do.values())

    def perform(self, name: str) -> bool:
        """Restore or build `name`; return whether it is up to date now."""
        artifact = self.plan.artifacts[name]
        began = time.monotonic()
        self.plan.renew(name)
        if self.is_fresh(name):
            return True
        planned = self.plan[name]
        progress = self._reporter.begins(artifact, planned.decision)
        try:
            if planned.facts.key is None:
                raise StageError("; ".join(str(r) for r in planned.decision.reasons) or "an input is missing")
            if planned.decision.state is State.RESTORABLE:
                record = self._restore(artifact, planned, progress)
                if record is not None:
                    self._succeed(artifact, planned, record, Did.RESTORED, time.monotonic() - began)
                    return True
                if self._workspace.store.action(planned.facts.key) is not None:
                    text = "the copy in the store was damaged (moved to quarantine): built again"
                    self._reporter.note(f"{artifact.label()}: {text}")
                self.plan.invalidate(name)
            record, did = self._restore_or_build(artifact, planned, progress)
            if record is not None:
                seconds = record.seconds if did is Did.BUILT else time.monotonic() - began
                self._succeed(artifact, planned, record, did, seconds)
            return True
        except Interrupted:
            if not self._stopped.is_set():  # all of the executor's jobs have ended, as another artifact tells
                self.skip(name, NOT_REACHED)
            return False
        except RvbuildError as error:
            detail = "\n".join(getattr(error, "__notes__", ()))
            self._fail(artifact, planned, str(error), detail, time.monotonic() - began)
            return False
        except (
            Exception
        ) as error:  # a defect, or an error of a stage in this process: reported, never swallowed by doit
            message = plain(error, self._workspace.store.root) or f"{type(error).__name__}: {error}"
            self._fail(artifact, planned, message, traceback.format_exc(), time.monotonic() - began)
            return False

    def skip(self, name: str, why: str) -> None:
        """Record that `name` was skipped, with the reason."""
        if name not in self.outcomes:
            self._done(Outcome(self.plan.artifacts[name], Did.SKIPPED, self.plan[name].decision.reasons, message=why))

    def interrupt(self) -> None:
        """Stop everything that runs; unfinished artifacts stay unchanged."""
        self._stopped.set()
        self._executor.interrupt()

    # -- parts --------------------------------------------------------------------------------------------------------

    def _stays(self, artifact: Artifact) -> bool:
        """Tell whether the result of an artifact stays where workers put it, because only other stages read it."""
        return artifact.stage in self._staying and self._is_far()

    def _is_far(self) -> bool:
        """Tell whether workers share no files with this machine."""
        return self._executor.is_elsewhere and self._executor.shares_no_files()

    def _restore(self, artifact: Artifact, planned: Planned, progress: Progress) -> Record | None:
        """Put the stored result of the key in place, after fetching it from the remote store if needed."""
        record = self._show_stored(artifact, planned)
        remote, key = self._workspace.read_through, planned.facts.key
        if record is None and remote is not None and key is not None and remote.fetch(key, progress):
            record = self._show_stored(artifact, planned)
        return record

    def _show_stored(self, artifact: Artifact, planned: Planned) -> Record | None:
        store, key = self._workspace.store, planned.facts.key
        assert key is not None
        if not store.knows(key):
            return None
        with store.writing():
            store.touch(key)
            action = store.restorable(key)
            if action is None:
                return None
            return placing.show(self._workspace, artifact, planned, action)

    def _restore_or_build(self, artifact: Artifact, planned: Planned, progress: Progress) -> tuple[Record | None, Did]:
        """Build under the key's lock, or restore the result of another process that built it meanwhile.

        There is no record of a result that stays in the remote store.
        """
        store, key = self._workspace.store, planned.facts.key
        assert key is not None
        with contextlib.ExitStack() as locks:
            locks.enter_context(self._wanting(key))
            locks.enter_context(store.building(key, self._waiting(artifact, key)))
            if not planned.facts.forced and not self._stays(artifact):
                record = self._restore(artifact, planned, progress)
                if record is not None:
                    return record, Did.RESTORED
            trajectory_key = None
            if artifact.resume_ignores is not None:
                trajectory_key = trajectory(planned.facts.components, artifact.resume_ignores)
                if trajectory_key != key:  # otherwise it is already held
                    locks.enter_context(store.building(trajectory_key, self._waiting(artifact, trajectory_key)))
            return self._build(artifact, planned, progress, trajectory_key), Did.BUILT

    def _noting(self, artifact: Artifact) -> Callable[[str], None]:
        return lambda line: self._reporter.note(f"{artifact.label()}: {line}")

    @contextlib.contextmanager
    def _wanting(self, key: str) -> Iterator[None]:
        """Count that an artifact with this key is being built here."""
        with self._counting:
            self._wanted[key] += 1
        try:
            yield
        finally:
            with self._counting:
                self._wanted[key] -= 1

    def _waiting(self, artifact: Artifact, key: str) -> Callable[[], None]:
        """Return a callback that is called repeatedly while another process builds `key`, or another thread here."""
        calls = 0

        def wait() -> None:
            nonlocal calls
            if self._stopped.is_set():
                raise Interrupted
            # Otherwise it may be another thread of this process, which may also just have released the lock.
            if self._wanted[key] < 2:
                calls += 1
            if calls == 2:
                calls += 1
                self._reporter.note(f"{artifact.label()}: waiting for another process that builds it …")

        return wait

    def _build(
        self, artifact: Artifact, planned: Planned, progress: Progress, trajectory_key: str | None
    ) -> Record | None:
        store, key = self._workspace.store, planned.facts.key
        assert key is not None
        if trajectory_key is not None and planned.facts.forced:
            store.forget_resume(trajectory_key)
        checkpoints = None if trajectory_key is None else Checkpoints(store, trajectory_key)
        with store.staging() as staging, contextlib.ExitStack() as leftovers:
            is_far = self._is_far()
            offer = {} if is_far else previous.offered(artifact, planned.facts, versions(), self._workspace.root)
            resume = None if checkpoints is None else checkpoints.folder
            grows = live.prepared(self._workspace, artifact, self._noting(artifact))
            job = job_of(self.plan, artifact, staging, resume, offer, grows)
            job = dataclasses.replace(job, demand=self._demand(artifact))
            with self._machine.taking(job.demand, self._stopped.is_set) as share:
                inputs = Inputs(self.plan, artifact, planned.facts)
                making = Making(
                    artifact.stage,
                    store.root,
                    self._workspace.cache / "tmp",
                    inputs.expected(),
                    {n: o.digest for n, o in placing.intact(self._workspace, artifact, planned).items()},
                    None if trajectory_key is None else store.lock_of_checkpoints(trajectory_key),
                    contents=inputs.contents() if is_far else {},
                )
                with contextlib.ExitStack() as guards:
                    if checkpoints is not None:
                        guards.enter_context(checkpoints.made_from(inputs, self._noting(artifact)))
                    job = dataclasses.replace(job, environment=share.environment(), making=making)
                    made: Made = self._run(job, progress)
                    if self._executor.is_elsewhere:
                        self._hosts[artifact.name] = made.host
                    leftovers.callback(placing.remove, made.copies())
                    inputs.check(made.changed)
            outputs = {name: (file.digest, file.size) for name, file in declared(artifact, made).items()}
            reused = previous.reused(artifact, made.result, offer, list(outputs), self._workspace.root)
            outputs |= {name: (offer[name].digest, offer[name].size) for name in reused}
            action = Action(
                key, planned.facts.components, outputs, made.seconds, time.time(), made.packages, trajectory_key
            )
            if is_far:
                return self._kept_elsewhere(artifact, planned, action, progress)
            first = self._first_writer(artifact, planned, action, progress)
            with store.writing():
                if first is None:
                    for name in reused:
                        previous.put_back(store, offer[name], self._workspace.root, staging / name)
                    before = store.action(key)
                    if before is not None and dict(before.outputs) != outputs:
                        store.differ(key, action, before, "here")
                        text = "not reproducible: the same key gave a different result before; the new one is kept"
                        self._reporter.note(f"{artifact.label()}: {text}")
                    held = {file.digest for file in made.files.values() if file.is_held}
                    staged = {made.folder / name: file.digest for name, file in made.files.items()}
                    store.keep(staged, action, held, made.is_durable)
                files = made.files if first is None else {}
                record = placing.show(self._workspace, artifact, planned, first or action, files)
        if record is None:
            raise StoreError(f"{store.root}: data just written to the store has disappeared; is the disk failing?")
        return record

    def _kept_elsewhere(self, artifact: Artifact, planned: Planned, ours: Action, progress: Progress) -> Record | None:
        """Write the record of a result that workers have put into the remote store; fetch it unless it stays there.

        Raises
        ------
        StoreError
            The remote store cannot be used.
        """
        remote = self._workspace.read_through
        assert remote is not None
        first = remote.announce(ours)
        if dict(first.outputs) != dict(ours.outputs):
            self._workspace.store.differ(ours.key, first, ours, remote.url)
            self._note_first(artifact, remote.url)
        if not self._stays(artifact):
            record = self._restore(artifact, planned, progress)
            if record is None:
                raise StoreError(f"{remote.url}: cannot fetch the result of {artifact.label()}; run again")
            return record
        reasons = planned.decision.reasons
        self._workspace.state.succeed_elsewhere(artifact.name, ours.key, [str(r) for r in reasons], ours.seconds)
        self.plan.keep_elsewhere(artifact.name, first)
        host = self._hosts.get(artifact.name, "")
        self._done(Outcome(artifact, Did.BUILT, reasons, ours.seconds, ours.key, host=host))
        return None

    def _note_first(self, artifact: Artifact, url: str) -> None:
        text = f"another machine stored a different result first; using that of {url} (`rvbuild cache stats`)"
        self._reporter.note(f"{artifact.label()}: {text}")

    def _first_writer(self, artifact: Artifact, planned: Planned, ours: Action, progress: Progress) -> Action | None:
        """Return the result that another machine has stored remotely meanwhile if it differs from `ours`.

        A key has one meaning, so that dependent artifacts have the same keys on all machines: the first writer wins. A
        result that was requested by --always-make or after `rvbuild clean` is kept here anyway.
        """
        remote, store = self._workspace.read_through, self._workspace.store
        if remote is None or planned.facts.forced or store.is_forgotten(ours.key):
            return None
        first = remote.request_again(ours.key)
        if first is None or dict(first.outputs) == dict(ours.outputs) or not remote.fetch(ours.key, progress):
            return None
        store.differ(ours.key, first, ours, remote.url)
        self._note_first(artifact, remote.url)
        return first

    def _demand(self, artifact: Artifact) -> Demand:
        """Return the resources that the stage of `artifact` needs."""
        demand = artifact.demand
        return demand if demand.memory else dataclasses.replace(demand, memory=self._memory.get(artifact.name, 0))

    def _run(self, job: Job, progress: Progress) -> Any:
        if self._stopped.is_set():
            raise Interrupted
        return self._executor.run(job, progress)

    def _succeed(self, artifact: Artifact, planned: Planned, record: Record, did: Did, seconds: float) -> None:
        reasons = planned.decision.reasons
        self._workspace.state.succeed(artifact.name, record, did.value, [str(r) for r in reasons], seconds)
        self.plan.update(artifact.name, record)
        shown = tuple(o.path for o in record.outputs.values())
        host = self._hosts.get(artifact.name, "")
        self._done(Outcome(artifact, did, reasons, seconds, record.key, shown, host=host))

    def _fail(self, artifact: Artifact, planned: Planned, message: str, detail: str, seconds: float) -> None:
        if self._stopped.is_set():
            return
        try:
            self._workspace.state.fail(artifact.name, planned.facts.key or "", message, seconds)
        except StoreError as error:  # a full disk, for example: the run continues, and this failure is not stored
            if str(error) != message:
                message += f"\n    {error}"
        self._done(
            Outcome(artifact, Did.FAILED, planned.decision.reasons, seconds, planned.facts.key, (), message, detail)
        )

    def _done(self, outcome: Outcome) -> None:
        self.outcomes[outcome.artifact.name] = outcome
        self._reporter.ended(outcome)
