"""Builds of variants of a project: all in one run, so that what they share is built once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.run.outcome import Reporter
from rvbuild.engine.workspace import Workspace
from rvbuild.project.model import Project
from rvbuild.session import trust
from rvbuild.session.build import Order, Planned, planned
from rvbuild.session.experiments.points import Graph, share
from rvbuild.session.names import belongs
from rvbuild.session.session import Session, open_session


class Variants:
    """A project and its variants, as one graph.

    Parameters
    ----------
    project
        The project of the file.
    variants
        Its variants; see `points.variant`.
    also
        Returns all artifacts, with some that are made from those of the variants.
    """

    def __init__(
        self,
        project: Project,
        variants: Sequence[Project],
        also: Callable[[Graph, Workspace], list[Artifact]] | None = None,
    ) -> None:
        self.project = project
        self.variants = list(variants)
        self.graph = Graph([], {})
        self._also = also
        self._every: list[Artifact] = []

    def arrange(self, every: list[Artifact], workspace: Workspace) -> list[Artifact]:
        """Return the artifacts without those that variants share with the project."""
        self._every = every
        self.graph = share(every, self.project.name)
        return self.graph.artifacts if self._also is None else self._also(self.graph, workspace)

    def of(self, session: Session, variant: Project) -> list[Artifact]:
        """Return the artifacts of a variant, the project's own where they are the same."""
        names = (self.graph.of(a.name) for a in self._every if a.project == variant.name)
        return [session.plan.artifacts[name] for name in names]

    def wanted(self, session: Session, stage: str) -> list[Artifact]:
        """Return the artifacts of all variants that a command builds."""
        every = [a for variant in self.variants for a in self.of(session, variant) if belongs(a.stage, stage)]
        return list({a.name: a for a in every}.values())

    @contextlib.contextmanager
    def planned(
        self,
        order: Order,
        reporter: Reporter,
        ask: trust.Ask | None = None,
        dry_run: bool = False,
        choose: Callable[[Session], list[Artifact]] | None = None,
    ) -> Iterator[Planned]:
        """Plan a build of the order's stage of all variants, or of what `choose` returns; see `build.planned`."""
        with planned(
            [self.project, *self.variants],
            order,
            reporter,
            ask,
            dry_run,
            self.arrange,
            choose or (lambda session: self.wanted(session, order.stage)),
        ) as work:
            yield work

    @contextlib.contextmanager
    def opened(self, notify: Callable[[str], None]) -> Iterator[Session]:
        """Open a session with the artifacts of all variants; nothing is built."""
        with open_session([self.project, *self.variants], notify=notify, arrange=self.arrange) as session:
            yield session
