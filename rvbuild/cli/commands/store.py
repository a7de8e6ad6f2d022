"""`rvbuild cache`: content, cleanup and verification of the store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rvbuild.cli import report
from rvbuild.cli.report import duration, moment, size_text, utc
from rvbuild.cli.terminal import echo
from rvbuild.engine.store import ownership
from rvbuild.engine.store.leases import LEASE_S, Lease, Standing
from rvbuild.engine.upkeep import garbage
from rvbuild.engine.upkeep.inventory import Inventory, find_roots, require_records, take_inventory
from rvbuild.engine.upkeep.verify import verify as verify_store
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.errors import UsageError, counted

_SIZES: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{unit}": int(base**power)
    for power, letter in enumerate("kMGT", start=1)
    for unit, base in (("", 1000), ("B", 1000), ("iB", 1024))
}
_TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_size(text: str) -> int:
    """Return a number of bytes from `10GB`, `500 MB`, `1.5GiB` or `4096`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    units = {unit.lower(): factor for unit, factor in _SIZES.items()}
    if match is None or match[2].lower() not in units:
        raise UsageError(f"{text!r} is not a size; write one such as 10GB, 500MB or 1.5GiB")
    return round(float(match[1]) * units[match[2].lower()])


def parse_age(text: str) -> float:
    """Return seconds from `30d`, `12h`, `2w`, `45min` or `10s`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text)
    if match is None or match[2] not in _TIMES:
        raise UsageError(f"{text!r} is not an age; write one such as 30d, 12h or 2w")
    return float(match[1]) * _TIMES[match[2]]


@contextlib.contextmanager
def opened(lock: bool) -> Iterator[Workspace]:
    """Open the workspace of the current directory, with its lock if it will be changed."""
    root = Path.cwd()
    if not any((root / name).exists() for name in ("projects", "cache")) and not any(root.glob("*.toml")):
        raise UsageError(f"{root}: no workspace (no projects/, cache/ or project file here)")

    def notify(line: str) -> None:
        echo(line, err=True)

    with locked(root, notify) if lock else contextlib.nullcontext():
        workspace = Workspace(root, notify)
        try:
            yield workspace
        finally:
            workspace.close()


def stats(as_json: bool) -> int:
    """Print the content of the store, the part in the workspace, and the space that gc could free."""
    with opened(lock=False) as workspace:
        inventory = take_inventory(workspace.store)
        now = workspace.store.now()
        roots = find_roots(workspace, now)
        useless = garbage.choose(workspace.store, inventory, roots, now=now)
        most = garbage.choose(workspace.store, inventory, roots, max_size=0, now=now)
        differences = workspace.store.differences()
        names = workspace.state.names()
    data: dict[str, Any] = {
        "store": str(workspace.store.root),
        "objects": _count(k.size for k in inventory.objects.values()),
        "actions": _count(k.size for _, k in inventory.actions.values()),
        "checkpoints": _count(k.size for k in inventory.checkpoints.values()),
        "quarantine": _count(k.size for k in inventory.quarantine.values()),
        "size": inventory.size(),
        "shown": {"count": roots.artifacts, "size": roots.size},
        "gc": {"size": sum(d.size for d in useless), "most": sum(d.size for d in most)},
        "differences": {"count": len(differences), "keys": sorted(differences)},
        "workspaces": [
            {
                "host": lease.host,
                "path": lease.path,
                "standing": lease.standing(now).value,
                "artifacts": len(lease.keys),
                "used": utc(lease.used),
            }
            for lease in roots.others
        ],
    }
    if as_json:
        report.print_json(data)
        return 0
    echo(f"store        {data['store']}")
    for name, description in (
        ("objects", "contents of artifacts"),
        ("actions", "results by key"),
        ("checkpoints", "trainings that can be resumed or extended"),
        ("quarantine", "damaged contents"),
    ):
        echo(f"{name:12} {data[name]['count']:>8}  {size_text(data[name]['size']):>8}  {description}")
    echo(f"{'in all':12} {'':8}  {size_text(inventory.size()):>8}")
    echo(f"{'shown':12} {roots.artifacts:>8}  {size_text(roots.size):>8}  artifacts in the workspace")
    for lease in roots.others:
        echo(_of_another(lease, now))
    if differences:
        count = len(differences)
        echo(f"{'differences':12} {count:>8}  {'':8}  keys with different results at another time or place:")
        for key, difference in differences.items():
            echo(f"{'':12} {names.get(key, difference.get('stage'))}: {', '.join(difference.get('outputs', ()))}")
    echo(f"`rvbuild cache gc` frees {size_text(data['gc']['size'])} of unusable data;")
    echo(
        f"with --max-size or --older-than up to {size_text(data['gc']['most'])}: earlier results can then not be "
        "restored"
    )
    return 0


def _count(sizes: Iterator[int]) -> dict[str, Any]:
    listed = list(sizes)
    return {"count": len(listed), "size": sum(listed)}


def gc(max_size: str | None, older_than: str | None, dry_run: bool, grace: str | None) -> int:
    """Remove the data that can be removed, or list them with `dry_run`."""
    limits: dict[str, Any] = {
        "max_size": None if max_size is None else parse_size(max_size),
        "older_than": None if older_than is None else parse_age(older_than),
    }
    if grace is not None:
        limits["grace"] = parse_age(grace)
    with (
        opened(lock=True) as workspace,
        workspace.store.alone(_notify_once("waiting for another rvbuild process that writes …")),
    ):
        workspace.sweep()
        inventory = take_inventory(workspace.store)
        require_records(workspace.root, workspace.state.records())
        now = workspace.store.now()
        roots = find_roots(workspace, now)
        drops = garbage.choose(workspace.store, inventory, roots, now=now, **limits)
        names = workspace.state.names()
        if dry_run:
            _list(drops, names, inventory)
        else:
            drops = list(garbage.remove(workspace.store, drops))
            for lease in roots.others:
                if not lease.counts(now):
                    lease.file.unlink(missing_ok=True)
    _sum_up(inventory, drops, limits["max_size"], dry_run)
    for lease in roots.others:
        echo(_of_another(lease, now))
    return 0


def _list(drops: list[garbage.Drop], names: dict[str, str], inventory: Inventory) -> None:
    """Print a line for each item to remove: name, key, time to rebuild, size, last use."""
    for drop in drops:
        label = drop.kind.value
        if drop.kind is garbage.Kind.ACTION:
            label = names.get(drop.name) or str(inventory.actions[drop.name][0].components.get("stage", "?"))
        took = "" if drop.seconds is None else duration(drop.seconds)
        echo(f"{label:28} {drop.name[:32]:32} {took:>12} {size_text(drop.size):>8}  last used {moment(drop.used)}")


_STANDINGS = {
    Standing.HERE: "its results are kept",
    Standing.AWAY: f"its results are kept until it was unused for {LEASE_S / 86400:.0f} days",
    Standing.GONE: "no longer exists: its results are not protected",
    Standing.EXPIRED: f"was not used for {LEASE_S / 86400:.0f} days: its results are not protected",
}


def _of_another(lease: Lease, now: float) -> str:
    """Return a line about another workspace that uses the store."""
    standing = lease.standing(now)
    where = lease.path if standing is Standing.HERE else f"{lease.host}:{lease.path}"
    shows = counted(len(lease.keys), "artifact")
    return f"workspace {where} ({shows}, last used {moment(lease.used)}): {_STANDINGS[standing]}"


def _sum_up(inventory: Inventory, drops: list[garbage.Drop], max_size: int | None, dry_run: bool) -> None:
    freed = sum(d.size for d in drops)
    remaining = inventory.size() - freed
    actions = [d for d in drops if d.kind is garbage.Kind.ACTION]
    seconds = sum(d.seconds or 0.0 for d in actions)
    lost = f", {len(actions)} earlier results (rebuilding them would take {duration(seconds)})" if actions else ""
    echo(f"{'would free' if dry_run else 'freed'} {size_text(freed)}{lost}; {size_text(remaining)} left")
    if max_size is not None and remaining > max_size:
        echo(f"more than {size_text(max_size)}: results in workspaces, and those used in the last minutes, are kept")


def adopt() -> int:
    """Accept the cache of the current directory as the user's own."""
    root = Path.cwd()
    if not (root / "cache").is_dir():
        raise UsageError(f"{root}: there is no cache/ here to adopt")
    with locked(root, lambda line: echo(line, err=True)):
        count = ownership.adopt(root / "cache")
    echo(f"{root / 'cache'} is yours now, with {counted(count, 'result')} in its store; `rvbuild build` restores them")
    return 0


def _notify_once(text: str) -> Any:
    printed: list[str] = []

    def wait() -> None:
        if not printed:
            printed.append(text)
            echo(text, err=True)

    return wait


def verify() -> int:
    """Hash all contents; return 1 if there are problems."""
    reporter = report.make(False, 0, False)
    with opened(lock=True) as workspace:
        try:
            records = workspace.state.records().values()
            findings = verify_store(workspace.store, workspace.root, records, reporter.task("verify"))
        finally:
            reporter.close()
        names = workspace.state.names()
    for digest in findings.damaged:
        echo(f"damaged  content {digest}: moved to {workspace.show(workspace.store.root / 'quarantine')}")
    for digest in findings.healed:
        echo(f"healed   content {digest}: restored from the workspace")
    for key, outputs in findings.broken.items():
        echo(f"gone     {names.get(key, 'key')} {key}: {', '.join(outputs)}; it is built again when needed")
    for path in findings.unreadable:
        echo(f"broken   {workspace.show(path)}: not a record; `rvbuild cache gc` removes it")
    verdict = "all good" if findings.is_good() else "damaged results are built again when needed"
    echo(f"{counted(findings.contents, 'content')}, {size_text(findings.size)}: {verdict}")
    return 0 if findings.is_good() else 1
