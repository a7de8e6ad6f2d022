"""The output of a build while it runs: plain lines in a pipe, bars on a terminal, nothing with --quiet."""

from __future__ import annotations

import datetime
import importlib.util
import json
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.cli.terminal import UNSAFE, echo, echo_exactly, printable, rendered, styled
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.plan.decide import Decision
from rvbuild.engine.run.outcome import Did, Outcome
from rvbuild.files.formats import SUFFIXES
from rvbuild.progress import Progress, Silent

_COLOURS = {Did.BUILT: "green", Did.RESTORED: "cyan", Did.FRESH: "white", Did.FAILED: "red", Did.SKIPPED: "yellow"}


def duration(seconds: float) -> str:
    """Return a duration for people: `0.3 s`, `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(at: float) -> str:
    """Return a time, in seconds since the epoch, as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def utc(at: float) -> str:
    """Return a time, in seconds since the epoch, as ISO 8601 in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")


def print_json(value: Any, form: Callable[[Any, bool], str] | None = None, indent: int = 1) -> None:
    """Print JSON; characters that the encoding of standard output lacks are escaped.

    `form` formats the value, given whether characters must be escaped; by default it is indented.
    """

    def text(escaped: bool) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=escaped) if form is None else form(value, escaped)

    plain = text(False)
    try:
        plain.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        plain = text(True)
    # JSON has an escape for every character; line feeds in texts are already escaped.
    echo_exactly(UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", plain))


def size_text(size: float) -> str:
    """Return a number of bytes for people: `512 B`, `3.2 kB`, `41 MB`, `1.5 GB`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} TB"


def one_a_line(document: Mapping[str, Any], escaped: bool) -> str:
    """Return an object as JSON, with each artifact on its own line, since there may be thousands."""
    artifacts = ",\n  ".join(json.dumps(item, ensure_ascii=escaped) for item in document["artifacts"])
    others = "".join(
        f',\n "{k}": {json.dumps(v, ensure_ascii=escaped)}' for k, v in document.items() if k != "artifacts"
    )
    return f'{{"artifacts": [\n  {artifacts}\n ]{others}}}' if artifacts else f'{{"artifacts": []{others}}}'


class Plain:
    """One line per artifact on standard error or output; notes of stages in between.

    Parameters
    ----------
    several : bool
        Whether lines name the project too.
    verbosity : int
        -1: only errors; 0: built and restored artifacts; 1: also fresh ones.
    stream : file
    """

    def __init__(self, several: bool, verbosity: int, stream: Any = None) -> None:
        self._several = several
        self._verbosity = verbosity
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()

    def label(self, artifact: Artifact) -> str:
        """Return the name of the artifact in a line."""
        return f"{artifact.project} {artifact.label()}" if self._several else artifact.label()

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Return the progress of the artifact, which prefixes its notes."""
        return self.task(self.label(artifact))

    def task(self, label: str) -> Progress:
        """Return a receiver of the progress of `label`."""
        return _Notes(self, label) if self._verbosity >= 0 else Silent()

    def ended(self, outcome: Outcome) -> None:
        """Print the artifact's line."""
        if outcome.did is Did.FRESH and self._verbosity < 1:
            return
        if self._verbosity < 0 and outcome.did is not Did.FAILED:
            return
        text = styled(f"{outcome.did.value:8}", _COLOURS[outcome.did])
        line = f"{text} {self.label(outcome.artifact)}"
        if outcome.did in (Did.BUILT, Did.RESTORED):
            line += f"  {duration(outcome.seconds)}" + (f" on {outcome.host}" if outcome.host else "")
        if outcome.did is Did.FAILED or outcome.did is Did.SKIPPED:
            line += f"  {outcome.message}"
        elif outcome.reasons:
            line += f"  ({_shorten([str(r) for r in outcome.reasons])})"
        self.line(line)

    def note(self, line: str) -> None:
        """Print a note about the run."""
        if self._verbosity >= 0:
            self.line(line)

    def line(self, text: str) -> None:
        """Print one line."""
        with self._lock:
            echo(text, file=self._stream)

    def close(self) -> None:
        """Do nothing."""


def _shorten(reasons: list[str]) -> str:
    return "; ".join(reasons) if len(reasons) <= 3 else "; ".join([*reasons[:3], f"and {len(reasons) - 3} more"])


class _Notes:
    def __init__(self, report: Plain, label: str) -> None:
        self._report = report
        self._label = label

    def start(self, step: str, total: int, unit: str) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, message: str) -> None:
        self._report.line(f"         {self._label}: {message}")


class Bars(Plain):
    """Lines as in `Plain`, above bars for the running stages."""

    def __init__(self, several: bool, verbosity: int) -> None:
        super().__init__(several, verbosity)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._console = Console()
        self._progress = RichProgress(
            # Names of scenes may look like markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} {task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Show a bar for the artifact."""
        bar = self.task(self.label(artifact))
        self._tasks[artifact.name] = bar.task
        return bar

    def task(self, label: str) -> _Bar:
        """Show a bar called `label`."""
        self._progress.start()  # not earlier, so that the user can be asked before the first bar
        task = self._progress.add_task(printable(label), total=None, unit="", rate="")
        return _Bar(self, self._progress, task, label)

    def ended(self, outcome: Outcome) -> None:
        """Remove the bar and print the line."""
        task = self._tasks.pop(outcome.artifact.name, None)
        if task is not None:
            self._progress.remove_task(task)
        super().ended(outcome)

    def line(self, text: str) -> None:
        """Print one line above the bars."""
        from rich.text import Text

        self._console.print(Text.from_ansi(rendered(text)), soft_wrap=True)

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()


class _Bar:
    def __init__(self, report: Bars, progress: Any, task: Any, label: str) -> None:
        self._report, self._progress, self.task, self._label = report, progress, task, label

    def start(self, step: str, total: int, unit: str) -> None:
        text = printable(f"{self._label} {step}")
        self._progress.reset(self.task, description=text, total=total, unit=unit, rate="")

    def advance(self, n: int = 1) -> None:
        self._progress.advance(self.task, n)
        speed = self._progress.tasks[self._progress.task_ids.index(self.task)].speed
        if speed:
            self._progress.update(self.task, rate=f"{speed:.3g}/s")

    def note(self, message: str) -> None:
        self._report.line(f"         {self._label}: {message}")


class OneLine(Plain):
    """Lines as in `Plain`, above one line with what runs, for a terminal without the package rich."""

    def __init__(self, several: bool, verbosity: int) -> None:
        super().__init__(several, verbosity)
        self._running: dict[int, _Count] = {}
        self._shown_at = 0.0

    def task(self, label: str) -> Progress:
        """Show a count called `label`."""
        count = _Count(self, label)
        with self._lock:
            self._running[id(count)] = count
        return count

    def begins(self, artifact: Artifact, decision: Decision) -> Progress:
        """Return the progress of the artifact, of which only notes are shown."""
        return _Notes(self, self.label(artifact))

    def line(self, text: str) -> None:
        """Print one line above."""
        with self._lock:
            self._clear()
            echo(text, file=self._stream)
            self._show()

    def update(self) -> None:
        """Show what runs, at most ten times a second."""
        with self._lock:
            if time.monotonic() - self._shown_at > _SHOW_EVERY_S:
                self._clear()
                self._show()

    def close(self) -> None:
        """Remove the line."""
        with self._lock:
            self._clear()
            self._running.clear()

    def _clear(self) -> None:
        self._stream.write("\r\x1b[K")

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(printable(", ".join(filter(None, map(str, self._running.values()))))[:width])
        self._stream.flush()


_SHOW_EVERY_S = 0.1


class _Count:
    """The progress of one task: `predict crowns.zip 3/10 images, 2.1/s`."""

    def __init__(self, report: OneLine, label: str) -> None:
        self._report, self._label = report, label
        self._text, self._done, self._total, self._unit, self._began = "", 0, 0, "", 0.0

    def __str__(self) -> str:
        if not self._unit:
            return self._label
        seconds = time.monotonic() - self._began
        rate = f", {self._done / seconds:.3g}/s" if self._done and seconds > 0 else ""
        return f"{self._text} {self._done}/{self._total} {self._unit}{rate}"

    def start(self, step: str, total: int, unit: str) -> None:
        self._text = f"{self._label} {step}".strip()
        self._done, self._total, self._unit, self._began = 0, total, unit, time.monotonic()
        self._report.update()

    def advance(self, n: int = 1) -> None:
        self._done += n
        self._report.update()

    def note(self, message: str) -> None:
        self._report.line(f"         {self._label}: {message}")


def make(several: bool, verbosity: int, as_json: bool) -> Plain:
    """Return the reporter of a command: plain on standard error with --json, bars or one line on a terminal."""
    if as_json:
        return Plain(several, verbosity, sys.stderr)
    if verbosity >= 0 and sys.stdout.isatty():
        return OneLine(several, verbosity) if importlib.util.find_spec("rich") is None else Bars(several, verbosity)
    return Plain(several, verbosity)


_AFTER_THE_REPORT = 0.5
"""Rank of bundles, mosaics and vectors: the page comes first."""


def states(outcomes: Iterable[Outcome]) -> str:
    """Return how many artifacts ended how, such as "3 built, 12 fresh"."""
    counts = Counter(outcome.did for outcome in outcomes)
    return ", ".join(f"{counts[did]} {did.value}" for did in Did if counts[did])


def outcomes(made: Sequence[Outcome]) -> dict[str, Any]:
    """Return the object that `--json` prints after a run."""
    artifacts = [
        {
            "project": o.artifact.project,
            "stage": o.artifact.stage,
            "scene": o.artifact.scene,
            "state": o.did.value,
            "reasons": [o.message, *map(str, o.reasons)] if o.message else [str(r) for r in o.reasons],
            "outputs": list(o.outputs),
            "key": o.key,
            "seconds": round(o.seconds, 3),
            **({"host": o.host} if o.host else {}),
        }
        for o in made
    ]
    return {"artifacts": artifacts, "summary": {did.value: sum(o.did is did for o in made) for did in Did}}


def where(root: Path, outputs: Iterable[str], shown: tuple[str, ...]) -> list[str]:
    """Return lines with the paths of results that users open, relative to the current directory."""
    best: dict[float, list[str]] = {}
    endings = (".zip", ".vrt", *SUFFIXES.values())
    ranks: dict[str, float] = {name: rank for rank, name in enumerate(shown)}
    for path in outputs:
        rank = ranks.get(path.rpartition("/")[2])
        if rank is not None:
            best.setdefault(rank, []).append(path)
        if path.endswith(endings):
            best.setdefault(_AFTER_THE_REPORT, []).append(path)
    lines = []
    for rank in sorted(best):
        paths = best[rank]
        lines += [f"  {from_here(root / p)}" for p in paths[:4]]
        if len(paths) > 4:
            lines.append(f"  … and {len(paths) - 4} more like it")
    return lines


def from_here(path: Path) -> str:
    """Return a path relative to the current directory, if it is in it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
