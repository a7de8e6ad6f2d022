"""The tasks of every project in `projects/` for plain doit: `doit list`, `doit run predict:potsdam`, `doit info`.

They are the tasks that `rvbuild` runs, with the same state and the same decisions.
"""

from rvbuild.cli.plain_doit import config, tasks

DOIT_CONFIG = config()


def task_artifacts():
    """Yield a task for every artifact of every project."""
    yield from tasks()
