"""Records about each block of a scene's chips, so that the next run can reuse unchanged blocks.

`blocks.json`: `{"settings": digest, "blocks": [{"number", "digest", "shards", "windows", "class_counts"}, ...],
"sheet": [[number of the block, place in it], ...]}`, where the sheet is the chips that `contact.png` shows. The digest
of a block covers its windows and what the labels say in and around them. The image and the area of interest it need
not cover: a previous result is given to the stage only if they are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

from rvbuild.stages.chip.blocks import Block
from rvbuild.stages.chip.contact_sheet import SHEET
from rvbuild.stages.chip.cut import Chips, stores
from rvbuild.stages.chip.settings import SceneChipSettings

BLOCKS = "blocks.json"


class Known(NamedTuple):
    """The reusable part of a previous result."""

    blocks: dict[int, Chips]
    """The unchanged blocks, by number."""
    sheet: list[list[int]] | None
    """The chips in `contact.png`, if it exists."""


def digest_of(block: Block, labels: str) -> str:
    """Return the digest of a block, given the digest of the labels in and around it."""
    return _digest([[list(window) for window in block.windows], labels])


def write_blocks(
    outputs: Path,
    settings: SceneChipSettings,
    digests: Mapping[int, str],
    cut: Sequence[Chips],
    sheet: Sequence[Sequence[int]],
) -> None:
    """Write `blocks.json`, from the digest of each block by its number, and the chips in the contact sheet."""
    entries = [{"digest": digests[chips.number], **chips._asdict()} for chips in cut]
    content = {"settings": _digest(settings), "blocks": entries, "sheet": sheet}
    (outputs / BLOCKS).write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")


def known(previous: Mapping[str, Path], settings: SceneChipSettings, digests: Mapping[int, str]) -> Known:
    """Return the reusable part of a previous result.

    Parameters
    ----------
    previous
        Files of a previous result, by name; a block with a missing file is not reused.
    settings
        The settings of the stage.
    digests
        Current digests of the blocks, by number.
    """
    unchanged: dict[int, Chips] = {}
    store = stores(settings)
    try:
        content = json.loads(previous[BLOCKS].read_text(encoding="utf-8"))
        if content["settings"] != _digest(settings):
            return Known({}, None)
        sheet = content["sheet"] if SHEET in previous else None
        for entry in content["blocks"]:
            digest = entry.pop("digest")
            chips = Chips(**entry)
            if digests.get(chips.number) == digest and all(name in previous for name in chips.files(store)):
                unchanged[chips.number] = chips
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Another version's, or not written by rvbuild: everything is cut.
        return Known({}, None)
    return Known(unchanged, sheet)


def _digest(value: object) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())
