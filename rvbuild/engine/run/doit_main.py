"""doit with the command `run` alone and without plugins, which it would look for among all installed packages."""

from __future__ import annotations

from doit.cmd_run import Run
from doit.dependency import SqliteDB
from doit.doit_cmd import DoitMain
from doit.plugin import PluginDict


class _Run(Run):  # type: ignore[misc]
    def get_backends(self) -> dict[str, type]:
        """Return the only database that is used: one in memory."""
        return {"sqlite3": SqliteDB}

    def get_reporters(self) -> dict[str, type]:
        """Return no reporter: each run has its own."""
        return {}


class Main(DoitMain):  # type: ignore[misc]
    """doit's entry point."""

    def get_cmds(self) -> PluginDict:
        """Return the commands by name."""
        return PluginDict({"run": _Run})
