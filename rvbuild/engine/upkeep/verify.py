"""The check of a whole store: every content is hashed, every record is read, and damage is repaired where possible.

A damaged content is moved to quarantine by a rename; if the workspace has an intact copy, that is put into the store.
Nothing is removed. After a kill at any moment, the store is as good as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rvbuild.cores import cores
from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.store import inside
from rvbuild.engine.store.state import Record
from rvbuild.engine.store.store import Store
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import is_output_path
from rvbuild.errors import StoreError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Progress


@dataclass(frozen=True, slots=True)
class Findings:
    """The problems of a store.

    Attributes
    ----------
    contents, size : int
        Number of contents that were hashed, and their bytes.
    damaged : tuple of str
        Digests of the contents that were moved to quarantine.
    healed : tuple of str
        Digests of missing or damaged contents that were restored from the workspace.
    broken : mapping
        key -> names of the outputs whose contents are missing and were not restored.
    unreadable : tuple of Path
        Records that cannot be read, as files.
    """

    contents: int
    size: int
    damaged: tuple[str, ...]
    healed: tuple[str, ...]
    broken: Mapping[str, list[str]]
    unreadable: tuple[Path, ...]

    def is_good(self) -> bool:
        """Tell whether there are no problems."""
        return not (self.damaged or self.healed or self.broken or self.unreadable)


def verify(store: Store, root: Path, records: Iterable[Record], progress: Progress) -> Findings:
    """Check `store`, repairing it from the outputs of `records` in the workspace at `root`."""
    before = take_inventory(store)
    progress.start("checking contents", len(before.objects), "contents")

    def is_damaged(digest: str) -> bool:
        try:
            return hash_file(store.object(digest)) != digest
        except FileNotFoundError:
            return False
        except OSError:
            return True  # the disk cannot read it
        finally:
            progress.advance()

    digests = list(before.objects)
    damaged = [d for d, bad in zip(digests, map_threads(is_damaged, digests, min(8, cores())), strict=True) if bad]
    for digest in damaged:
        store.quarantine(digest)
    missing = set(damaged) | {
        action.outputs[name][0]
        for key, names in before.broken().items()
        for action in [before.actions[key][0]]
        for name in names
    }
    healed = _heal(store, root, records, missing) if missing else []
    after = take_inventory(store)
    return Findings(
        len(before.objects),
        sum(k.size for k in before.objects.values()),
        tuple(damaged),
        tuple(healed),
        after.broken(),
        tuple(after.unreadable),
    )


def _heal(store: Store, root: Path, records: Iterable[Record], missing: set[str]) -> list[str]:
    """Restore those `missing` contents of which the workspace at `root` has intact copies."""
    healed = []
    for output in [o for record in records for o in record.outputs.values()]:
        if output.digest not in missing or not is_output_path(output.path):
            continue
        copy = store.temporary()
        try:
            with store.writing():
                with inside.reading(root / "cache", output.path.partition("/")[2]) as file:
                    inside.copy_open(file, copy)
                if hash_file(copy) == output.digest:
                    store.take(copy, output.digest)
                    missing.discard(output.digest)
                    healed.append(output.digest)
        except (FileNotFoundError, StoreError):
            continue
        finally:
            store.release(copy)
    return healed
