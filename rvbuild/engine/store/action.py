"""The result of building a key: the record in a store, which refers to the contents."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.store import inside
from rvbuild.files.signing import SIGNATURE, is_signed, signed_text

_DIGEST = re.compile(r"[0-9a-f]{32}")
#: Maximum size of a record; that of a project with 100 000 scenes has about 10 MB.
MOST_RECORD_BYTES = 1 << 26

_CHECK = "xxh3:"


def _check(data: Mapping[str, Any]) -> str:
    """Return a checksum that reveals damage of unsigned records."""
    return _CHECK + digest({name: value for name, value in data.items() if name != SIGNATURE})


def is_digest(text: Any) -> bool:
    """Tell whether `text` is a key, or the digest of a content or of a trajectory: 32 hex digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Action:
    """The result of a key; `outputs` maps names to (digest, size), `trajectory` names its checkpoints if any."""

    key: str
    components: Mapping[str, Any]
    outputs: Mapping[str, tuple[str, int]]
    seconds: float
    at: float
    packages: Mapping[str, str] = field(default_factory=dict)
    trajectory: str | None = None

    def encoded(
        self, key: bytes | None = None, sha256: Mapping[str, str] | None = None, *, checked: bool = False
    ) -> bytes:
        """Return the action as JSON, as stored.

        Parameters
        ----------
        key : bytes, optional
            The key of the signature.
        sha256 : mapping, optional
            Digest of a content -> its SHA-256, which is then part of the signed data.
        checked : bool
            Whether to add a checksum if it is not signed.
        """
        data: dict[str, Any] = {
            "key": self.key,
            "components": self.components,
            "outputs": {name: list(value) for name, value in self.outputs.items()},
            "seconds": self.seconds,
            "at": self.at,
            "packages": dict(self.packages),
            "trajectory": self.trajectory,
        }
        if sha256 is not None:
            data["sha256"] = dict(sha256)
        if key is not None:
            return signed_text(data, key)
        if checked:
            data[SIGNATURE] = _check(data)
        return json.dumps(data, sort_keys=True).encode()

    @classmethod
    def decoded(cls, text: bytes, key: str, secret: bytes | None = None) -> Action | None:
        """Return the action of `key` from JSON, or None if it is invalid or damaged.

        The text is not trusted: outputs must have plain names and valid digests. With `secret`, the signature of a
        signed record must be valid.
        """
        try:
            data = json.loads(text)
            signature = data.get(SIGNATURE)
            is_check = isinstance(signature, str) and signature.startswith(_CHECK)
            if is_check and signature != _check(data):
                return None
            if signature is not None and not is_check and secret is not None and not is_signed(data, secret):
                return None
            for name in (SIGNATURE, "sha256"):
                data.pop(name, None)
            outputs = {name: (digest, size) for name, (digest, size) in data.pop("outputs").items()}
            action = cls(outputs=outputs, **data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return action if action.key == key and action._is_sound() else None

    def _is_sound(self) -> bool:
        """Tell whether all values have the right types."""
        outputs = all(
            inside.is_plain(name) and is_digest(digest) and type(size) is int and 0 <= size < 1 << 63
            for name, (digest, size) in self.outputs.items()
        )
        numbers = all(type(value) in (int, float) and math.isfinite(value) for value in (self.seconds, self.at))
        mappings = isinstance(self.components, dict) and isinstance(self.packages, dict)
        packages = mappings and all(isinstance(version, str) for version in self.packages.values())
        trajectory = self.trajectory is None or inside.is_plain(self.trajectory)
        return bool(self.outputs) and inside.is_plain(self.key) and outputs and numbers and packages and trajectory
