"""Files of installed packages, `package:path/in/it`, and of wheels, `path/to/package.whl:path/in/it`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from rvbuild.errors import DataError, nearest
from rvbuild.files.zipped import members

_PACKAGE_FILE = re.compile(r"([A-Za-z_]\w*):(?![/\\])(.+)")


class PackageFileError(Exception):
    """There is no such package, or no such file in it."""


def require_member(wheel: Path, member: str) -> None:
    """Raise an error if a wheel that is there does not hold a file.

    Raises
    ------
    PackageFileError
        With the reason for the user.
    """
    if not wheel.is_file():
        return  # reported with the other files that are missing
    try:
        names = members(wheel)
    except DataError as error:
        raise PackageFileError(str(error)) from error
    if member not in names:
        same_kind = [name for name in names if name.endswith(Path(member).suffix)]
        raise PackageFileError(f'the wheel {wheel} has no file "{member}"{nearest(member, same_kind)}')


def package_file(text: str) -> str | None:
    """Return the path of a file that is named `package:file`; None if the text is a path.

    The package is not imported.

    Raises
    ------
    PackageFileError
        With the reason for the user.

    Examples
    --------
    >>> package_file("weights/encoder.safetensors") is None
    True
    """
    match = _PACKAGE_FILE.fullmatch(text)
    if match is None:
        return None
    package, file = match.groups()
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PackageFileError(
            f'the package "{package}" of {text} is not installed: install it, or give the path of the file'
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / file
    if path.is_file():
        return str(path)
    names = [str(other.relative_to(folder)) for other in sorted(folder.rglob(f"*{path.suffix}")) if other.is_file()]
    raise PackageFileError(f'the package "{package}" has no file "{file}"{nearest(file, names)}')
