"""The signature of a bundle, in a file beside it: created with a secret key, and verified by those who share the key.

A bundle has the same bytes whoever packs it, so the signature is no part of it. `BUNDLE.zip.sig` signs the SHA-256 of
the manifest, which has the SHA-256 of each member.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from rvbuild.errors import DataError, UsageError
from rvbuild.files.signing import is_signed, shared_key, signed
from rvbuild.stages.bundle.zip import FORMAT, Manifest, extract_zip

VARIABLE = "RVBUILD_BUNDLE_KEY"
"""The environment variable with the key."""

_FORMAT = "rvbuild signature 1"
_MOST_BYTES = 1 << 16


def signature_file(bundle: Path) -> Path:
    """Return where the signature of a bundle is.

    >>> signature_file(Path("crowns.zip")).name
    'crowns.zip.sig'
    """
    return bundle.with_name(f"{bundle.name}.sig")


def sign(bundle: Path, required: frozenset[str]) -> Path:
    """Write the signature of a bundle with the key of the environment, and return the file.

    Parameters
    ----------
    bundle
        The zip.
    required
        The members that every bundle has.

    Raises
    ------
    DataError
        It is not a bundle, or is damaged.
    UsageError
        There is no key.
    """
    key = shared_key(VARIABLE)
    if key is None:
        raise UsageError(
            f"sign {bundle}: {VARIABLE} is not set; set it to a secret, for example the output of `openssl rand -hex "
            "32`"
        )
    seen: list[Manifest] = []
    with tempfile.TemporaryDirectory(prefix="rvbuild-bundle-") as into:
        extract_zip(bundle, Path(into), required, seen.append)
    _require_safe(bundle, seen[0])
    file = signature_file(bundle)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps(signed({"format": _FORMAT, "manifest": seen[0].sha256}, key), indent=2) + "\n")
    part.replace(file)
    return file


def checker(bundle: Path) -> Callable[[Manifest], None] | None:
    """Return a function that verifies a bundle's manifest; None if the environment has no key.

    Raises
    ------
    DataError
        There is no signature, or one of another key.
    """
    key = shared_key(VARIABLE)
    if key is None:
        return None
    file = signature_file(bundle)
    remedy = f"get it from the source of the bundle, or unset {VARIABLE} if you trust the bundle without it"
    try:
        with file.open("rb") as stream:
            signature = json.loads(stream.read(_MOST_BYTES))
    except FileNotFoundError:
        raise DataError(f"{bundle}: is not signed: {VARIABLE} is set, and there is no {file.name}; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as a signature: {error}; {remedy}") from error
    if not isinstance(signature, dict) or signature.get("format") != _FORMAT or not is_signed(signature, key):
        raise DataError(f"{file}: is not signed with the key in {VARIABLE}; {remedy}")

    def check(manifest: Manifest) -> None:
        _require_safe(bundle, manifest)
        if signature.get("manifest") != manifest.sha256:
            raise DataError(f"{bundle}: is not the bundle that {file.name} was made for; {remedy}")

    return check


def _require_safe(bundle: Path, manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise DataError(
            f"{bundle}: was packed by an earlier rvbuild, whose digests reveal damage but not forgery, so a signature "
            "would prove little; pack it again with `rvbuild bundle`"
        )
