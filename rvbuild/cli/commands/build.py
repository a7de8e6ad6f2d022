"""The commands that build: every stage, and `build` for everything."""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rvbuild import rules
from rvbuild.cli import chipped, report, trusting
from rvbuild.cli.commands import check as checking
from rvbuild.cli.commands import status as asking
from rvbuild.cli.session import Session, jobs_default, load_all, looked_at, project_paths, session
from rvbuild.cli.terminal import echo, styled
from rvbuild.cli.words import stages_of
from rvbuild.engine.keys import installed
from rvbuild.engine.keys.artifact import Artifact, Source
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.plan import seal
from rvbuild.engine.plan.decide import State
from rvbuild.engine.run import doit as engine
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.run.machine import this_machine
from rvbuild.engine.run.outcome import Did, Outcome
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Executor, Inline, Pool
from rvbuild.engine.store import inside
from rvbuild.engine.store.fingerprint import is_racy
from rvbuild.engine.workspace import locked
from rvbuild.errors import ProjectError, UsageError, counted
from rvbuild.files.address import is_url
from rvbuild.files.budget import memory_bytes
from rvbuild.files.identity import CONTENT
from rvbuild.files.urls import Url
from rvbuild.process import variables
from rvbuild.project.missing import missing_files
from rvbuild.project.model import Project
from rvbuild.rules import own_rules
from rvbuild.rules.common import listed

#: How the names of images end of which a directory may be full.
IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".img", ".vrt"})


@dataclass(frozen=True)
class Options:
    """The flags of a building command."""

    jobs: int | None = None
    dry_run: bool = False
    keep_going: bool = False
    always_make: bool = False
    verbosity: int = 0
    as_json: bool = False
    overrides: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    inline: bool = False
    trust: bool = False


def build(stage: str, words: Sequence[str], options: Options, normal: list[str] | None) -> int:
    """Bring `stage` of the projects that `words` name up to date; return the exit status."""
    paths = project_paths(words)
    before = {str(p.absolute()): s for p in [*paths, *installed.on_disk()] if (s := signature(p)) is not None}
    projects = load_all(paths, options.overrides)
    reporter = report.make(len(projects) > 1, options.verbosity, options.as_json)

    def forced(artifacts: list[Artifact]) -> frozenset[str]:
        if not options.always_make:
            return frozenset()
        return closure_names(artifacts, stage, scenes_of(projects, options))

    def rules_may_run(own: Sequence[Project]) -> bool:
        if options.dry_run:
            return looked_at(own, options.trust)
        files = {str(path) for project in own for path in own_rules.files(project)}
        trusting.require_files(own[0].workspace, files, options.trust, reporter.note, ask=not options.as_json)
        return True

    try:
        with (
            locked(projects[0].workspace, reporter.note),
            session(
                projects,
                say=reporter.note,
                inline=options.inline,
                jobs=options.jobs,
                forced=forced,
                rules_may_run=rules_may_run,
            ) as now,
        ):
            wanted = now.wanted(stage, options.scenes)
            closure = now.plan.closure(a.name for a in wanted)
            _require_files(now, closure)
            now.workspace.sweep()
            now.plan.look(closure)
            if now.workspace.prints.hashed and not options.dry_run:
                now.executor.prepare()  # it imports while decisions are made
            if options.dry_run:
                reporter.close()
                return _dry_run(now, closure, options)
            pending = [a for a in closure if now.plan[a.name].decision.state not in (State.FRESH, State.RESTORABLE)]
            trusting.require(now.workspace.root, pending, options.trust, reporter.note, ask=not options.as_json)
            memory = checking.before_build(now, closure, options.keep_going, _jobs(options), reporter.note)
            builder = Builder(now.plan, now.executor, reporter, this_machine(memory_bytes()), memory)
            _run(now, wanted, builder, options)
            outcomes = _outcomes(builder, closure)
            for line in chipped.doubts(now, outcomes):
                reporter.note(line)
            lines = _last_lines(now, wanted, outcomes)
            own = any(p.rules for p in projects)  # what they read is not known
            if normal is not None and not own and not options.always_make and all(o.did in _DONE for o in outcomes):
                _seal(now, normal, projects, closure, before, lines)
    finally:
        reporter.close()
    if options.as_json:
        report.print_json(_json(outcomes), report.one_a_line)
    elif options.verbosity >= 0:
        echo("\n".join(lines))
    return 0 if all(o.did in _DONE for o in outcomes) else 1


_DONE = (Did.BUILT, Did.RESTORED, Did.FRESH)


def _jobs(options: Options) -> int:
    return 1 if options.inline else options.jobs or jobs_default()


def _run(now: Session, wanted: list[Artifact], builder: Builder, options: Options) -> None:
    jobs = _jobs(options)
    try:
        to_do = builder.to_do(a.name for a in wanted)
        gc.freeze()  # the plan stays; see `main`
        gc.enable()
        engine.run(to_do, builder, jobs, options.keep_going)
    except BaseException:
        builder.interrupt()
        raise


def scenes_of(projects: Sequence[Project], options: Options) -> frozenset[str]:
    """Return the ids of the scenes that `--scene` names; a scene that several splits share stands for its parts."""
    return frozenset({s.id for p in projects for s in p.scenes if s.base in options.scenes} | set(options.scenes))


def closure_names(artifacts: Sequence[Artifact], stage: str, scenes: Collection[str]) -> frozenset[str]:
    """Return the names of the artifacts of `stage`, of some scenes if any are given, and of all that they need."""
    by_name = {a.name: a for a in artifacts}
    left = [
        a.name
        for a in artifacts
        if (stage == "build" or a.stage in stages_of(stage)) and (not scenes or a.scene in scenes)
    ]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += by_name[name].needs()
    return frozenset(found)


def _require_files(now: Session, closure: Sequence[Artifact]) -> None:
    problems: list[str] = []
    for project in now.projects:
        scenes = {a.scene for a in closure if a.project == project.name and a.scene is not None}
        problems += missing_files(project, scenes, now.workspace.prints.is_known, builds=True)
    if problems:
        raise ProjectError(problems)


def _dry_run(now: Session, closure: Sequence[Artifact], options: Options) -> int:
    rows = asking.rows(now, closure)
    if options.as_json:
        report.print_json(asking.document(rows), report.one_a_line)
    else:
        asking.print_rows([r for r in rows if r["state"] != "fresh" or options.verbosity > 0], len(now.projects) > 1)
        echo(asking.summary_line(rows))
    return 0


def _outcomes(builder: Builder, closure: Sequence[Artifact]) -> list[Outcome]:
    for artifact in closure:
        builder.skip(artifact.name, "not reached: something failed before its turn")
    return [builder.outcomes[a.name] for a in closure]


def _last_lines(now: Session, wanted: Sequence[Artifact], outcomes: Sequence[Outcome]) -> list[str]:
    counts = {did: sum(o.did is did for o in outcomes) for did in Did}
    failed = [o for o in outcomes if o.did is Did.FAILED]
    said = ", ".join(f"{n} {did.value}" for did, n in counts.items() if n)
    lines = [_nothing(len(outcomes)) if counts[Did.FRESH] == len(outcomes) else said]
    if failed:
        lines += [styled("failed:", "red"), *(f"  {o.artifact.label()}: {o.message}" for o in failed)]
        lines += _tracebacks(now, failed)
    names = {a.name for a in wanted}
    shown = [path for o in outcomes if o.artifact.name in names for path in o.outputs]
    return lines + report.where(now.workspace.root, shown, rules.SHOWN)


def _nothing(count: int) -> str:
    return f"nothing to do: {counted(count, 'artifact')} {'is' if count == 1 else 'are'} fresh"


def _tracebacks(now: Session, failed: Sequence[Outcome]) -> list[str]:
    """Write the tracebacks of failures to a log and say where it is; they never go to the terminal."""
    texts = [f"{o.artifact.name}\n{o.detail}" for o in failed if o.detail]
    if not texts:
        return []
    log = now.workspace.cache / "log" / "failures.txt"
    try:
        inside.write(now.workspace.cache, "log/failures.txt", "\n".join(texts).encode("utf-8", "surrogateescape"))
    except OSError:  # the disk that the failures speak of is full
        return []
    return [f"  (details: {now.workspace.show(log)})"]


def _json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
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
        }
        for o in outcomes
    ]
    return {"artifacts": artifacts, "summary": {did.value: sum(o.did is did for o in outcomes) for did in Did}}


def _seal(
    now: Session,
    normal: list[str],
    projects: Sequence[Project],
    closure: Sequence[Artifact],
    before: dict[str, Any],
    lines: list[str],
) -> None:
    files: dict[str, Any] = dict(before)
    directories: dict[str, int | None] = {}
    if (projects[0].workspace / "projects").is_dir():
        directories[str(projects[0].workspace / "projects")] = None
    elsewhere: dict[str, str] = {}
    for path, found in ((p, s) for project in projects for p, s in project.reads.items()):
        if found is None:
            return
        if isinstance(found, str):
            elsewhere[path] = found
        else:
            files[path] = found
    state, root = now.workspace.state, str(now.workspace.root)
    for artifact in closure:
        for item in artifact.inputs:
            if isinstance(item, Source):
                directories.update(dict.fromkeys(map(str, item.folders)))
                files |= {str(path): seen for path, seen in item.unread}
                for path in map(str, itertools.chain(item.files, *item.companions)):
                    if is_url(path):
                        identity = now.workspace.prints.identity(path)
                        if identity is None or identity.by == CONTENT:
                            return
                        elsewhere[path] = identity.digest
                        continue
                    if path in files:
                        continue
                    known = state.file(path)
                    if known is None or is_racy(*known[:2]):
                        return
                    files[path] = known[0]
                    directories[path.rpartition("/")[0] or "/"] = None
        record = now.plan[artifact.name].facts.record
        for output in record.outputs.values() if record else ():
            path = f"{root}/{output.path}"
            found = output.placed() or signature(path)
            if found is None or not output.is_as_placed(found):
                return
            files[path] = found
    for project in projects:
        directories |= listed(project)
    environment = {name: value for p in projects for name, value in p.env.items()}
    seal.write(
        seal.path_of(now.workspace.cache, normal),
        normal,
        files=files,
        directories=directories,
        environment=environment,
        packages={name: version for artifact in closure for name, version in artifact.versions().items()},
        elsewhere=elsewhere,
        lines=[_nothing(len(closure)), *lines[1:]],
    )


def predict_bundle(words: Sequence[str], into: Path | None, allow_code: bool, verbosity: int, inline: bool) -> int:
    """Predict images with a bundle: `words` are the bundle and the images."""
    gc.enable()  # a stage may run here; see `main`
    bundle, images = Path(words[0]), [Url(w) if is_url(w) else Path(w).absolute() for w in words[1:]]
    if not images:
        raise UsageError(f"predict {bundle}: no image given; use `rvbuild predict {quote(str(bundle))} IMAGE… -o DIR`")
    if into is None:
        raise UsageError(f"predict {bundle}: say where the predictions go, with -o DIR")
    missing = [str(p) for p in [bundle, *images] if not isinstance(p, Url) and not p.exists()]
    if missing:
        raise UsageError("no such file: " + ", ".join(missing))
    for folder in (p for p in images if not isinstance(p, Url) and p.is_dir()):
        suffixes = sorted({f.suffix for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES}) or [".tif"]
        files = " ".join(f"{quote(str(folder))}/*{suffix}" for suffix in suffixes)
        then = f"rvbuild predict {quote(str(bundle))} {files} -o {quote(str(into))}"
        raise UsageError(f"{folder}: is a directory; name its images, as in `{then}`")
    reporter = report.make(False, verbosity, False)
    # Where it leads, an image has no say here: its own directory is all.
    environment = {**variables.for_workers(os.environ), **rules.places(None, ())}
    for line in variables.problems(os.environ):
        reporter.note(line)
    kwargs = {"bundle_path": bundle.absolute(), "images": images, "out": into.absolute(), "allow_code": allow_code}
    job = Job("rvbuild.stages.bundle.predict:predict_images", kwargs, "torch")
    with tempfile.TemporaryDirectory(prefix="rvbuild-log-") as logs:
        executor: Executor = Inline(environment) if inline else Pool(environment, Path(logs))
        try:
            made = executor.run(job, reporter.task(f"predict {bundle.name}"))
        except BaseException:
            executor.interrupt()
            raise
        finally:
            executor.close()
            reporter.close()
    if verbosity >= 0:
        echo("\n".join(str(p) for p in made))
    return 0


def sign_bundle(word: str) -> int:
    """Write the signature of a bundle."""
    from rvbuild.stages.bundle.signature import sign
    from rvbuild.stages.bundle.write import MEMBERS

    if not Path(word).is_file():
        raise UsageError(f"no such file: {word}")
    echo(str(sign(Path(word), MEMBERS)))
    return 0
