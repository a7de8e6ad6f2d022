"""The tasks, one declaration each: everything that differs between tasks."""

from __future__ import annotations

from collections.abc import Mapping

from rvbuild.project.tasks import classification, detection, segmentation
from rvbuild.project.tasks.spec import TaskSpec

SPECS: Mapping[str, TaskSpec] = {spec.name: spec for spec in (segmentation.SPEC, classification.SPEC, detection.SPEC)}
"""The tasks by name, in the order of messages."""

NAMES = tuple(SPECS)


def keys_of_tasks(table: str) -> tuple[str, ...]:
    """Return the keys of a kind of table that belong to individual tasks.

    >>> keys_of_tasks("eval")
    ('strip_px', 'iou_thresh')
    """
    return tuple(key for spec in SPECS.values() for key in spec.keys.get(table, ()))
