"""The tasks of every project in `projects/` for plain doit: `doit list`, `doit run predict:potsdam`, `doit info`.

They are the tasks that `rvbuild` runs, with the same state and the same decisions.
"""

from rvbuild.process.safe_path import protect

protect()  # doit puts the directory of this file first on the path, and modules of it would come before installed ones

from rvbuild.cli.plain_doit import config, tasks  # noqa: E402

DOIT_CONFIG = config()


def task_artifacts():
    """Yield a task for every artifact of every project."""
    yield from tasks()
