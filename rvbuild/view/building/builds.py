"""The build that the page starts: one at a time, in a process of its own, which can be stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.errors import UsageError, nearest
from rvbuild.session.names import BUILDING

MOST_NOTES = 2000

STOP_S = 20.0
"""How long a build has to end when the page's server does."""


class Build:
    """What is known of the last build, and how to start and stop one."""

    def __init__(
        self,
        path: Path,
        overrides: Sequence[str],
        trust: bool,
        environment: Mapping[str, str],
        tell: Callable[[str, Any], None],
    ) -> None:
        self._path, self._overrides, self._trust = path, list(overrides), trust
        self._environment, self._tell = dict(environment), tell
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._state: dict[str, Any] = _idle()

    def state(self) -> dict[str, Any]:
        """Return what is known, as JSON data: `running`, `stage`, `planned`, `artifacts` by label, `notes`, `ok`,
        `message`.
        """
        with self._lock:
            copied: dict[str, Any] = json.loads(json.dumps(self._state))
        return copied

    def start(self, stage: str = "build") -> None:
        """Start a build.

        Raises
        ------
        UsageError
            There is no such stage, or a build is running.
        """
        if stage not in BUILDING:
            raise UsageError(f"build: no stage {stage!r}{nearest(stage, BUILDING)} (stages: {', '.join(BUILDING)})")
        asked = {"path": str(self._path), "overrides": self._overrides, "stage": stage, "trust": self._trust}
        with self._lock:
            if self._state["running"]:
                raise UsageError("a build is running already")
            self._state = {**_idle(), "running": True, "stage": stage, "ok": None}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rvbuild.view.building.child", json.dumps(asked)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                cwd=self._path.parent,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the server, which then stops the build
            )
            process = self._process
        threading.Thread(target=self._follow, args=(process,), name="rvbuild-view-build", daemon=True).start()
        self._tell("build", self.state())

    def stop(self) -> None:
        """Interrupt the build, if there is one; what is finished is kept."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Interrupt the build and wait for its end."""
        self.stop()
        process = self._process
        if process is not None:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        """Read the events of a build until its end."""
        errors: list[str] = []
        assert process.stdout is not None and process.stderr is not None
        drain = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        drain.start()
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library has printed something
            with self._lock:
                self._apply(event)
            self._tell("build-event", event)
        status = process.wait()
        drain.join(timeout=5)
        process.stdout.close()
        process.stderr.close()
        with self._lock:
            if self._state["running"]:  # it ended without a word
                last = "".join(errors[-5:]).strip()
                self._state |= {"running": False, "ok": False, "message": last or f"the build ended with {status}"}
        self._tell("build", self.state())

    def _apply(self, event: dict[str, Any]) -> None:
        artifacts: dict[str, Any] = self._state["artifacts"]
        label = str(event.get("label"))
        match event["event"]:
            case "planned":
                self._state["planned"] = event["labels"]
            case "begins":
                artifacts[label] = {"state": "running"}
            case "progress":
                step = {key: event[key] for key in ("what", "done", "total", "unit")}
                artifacts.setdefault(label, {"state": "running"}).update(step)
            case "ended":
                artifacts[label] = {"state": event["did"], "message": event["message"], "seconds": event["seconds"]}
            case "note":
                self._state["notes"] = [*self._state["notes"], {"label": event["label"], "text": event["message"]}][
                    -MOST_NOTES:
                ]
            case "finished":
                self._state |= {"running": False, "ok": event["ok"], "message": event["message"]}


def _idle() -> dict[str, Any]:
    return {
        "running": False, "stage": None, "planned": [], "artifacts": {}, "notes": [], "ok": None, "message": ""
    }  # fmt: skip
