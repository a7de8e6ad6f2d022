"""Executors of jobs: in this process, or in workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rvbuild.cores import cores
from rvbuild.engine.run.workers import Executor, Inline, Pool
from rvbuild.engine.workspace import Workspace


def new_executor(
    environment: Mapping[str, str | None],
    logs: Path,
    preload: Sequence[str] = (),
    jobs: int | None = None,
    *,
    inline: bool = False,
) -> Executor:
    """Return an executor of jobs: in this process one at a time, or in workers, by default one for each core.

    Parameters
    ----------
    environment
        Environment variables of the workers; None removes one.
    logs
        Directory for the output of workers.
    preload
        Modules that workers import before their first job.
    jobs
        Number of parallel jobs.
    inline
        Whether jobs run in this process.
    """
    return Inline(environment) if inline else Pool(environment, logs, preload, jobs or jobs_default())


def cluster_executor(
    address: str,
    environment: Mapping[str, str | None],
    workspace: Workspace,
    preload: Sequence[str],
    jobs: int | None,
    notify: Callable[[str], None],
) -> Executor:
    """Return the executor of jobs on the cluster at `address`; see `new_executor` for the others."""
    from rvbuild.engine.cluster.executor import Cluster  # imported late: few builds have a cluster
    from rvbuild.engine.remote.exchange import Exchange

    here = new_executor(environment, workspace.cache / "log", preload, jobs)
    remote = workspace.read_through
    exchange = None if remote is None else Exchange(remote.url, workspace.root, workspace.store)
    return Cluster(address, environment, workspace.cache, workspace.store.root, preload, jobs, notify, exchange, here)


def jobs_default() -> int:
    """Return the default number of artifacts that are built in parallel."""
    return cores()
