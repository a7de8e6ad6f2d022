"""What tells one state of a file on a server from another, and the error of a server that does not say it."""

from __future__ import annotations

from dataclasses import dataclass, field


class UnreachableError(Exception):
    """A server does not answer, or not with the file; the message says how."""


CONTENT = "content"
"""What `Identity.by` says of a file that had to be read."""


@dataclass(frozen=True)
class Identity:
    """What tells one state of a file from another.

    Attributes
    ----------
    by : str
        `ETag`, `Last-Modified and size`, or `content`.
    digest : str
        32 hex digits; of the content, or of address, size and what the server says.
    changed : str
        When the file was changed last as its server says, whether or not that is part of the digest; may be empty.
    asked : str
        When the server was asked, by its own clock; may be empty.
    """

    by: str
    digest: str
    changed: str = field(default="", compare=False)
    asked: str = field(default="", compare=False)

    def is_other_than(self, before: Identity) -> bool:
        """Tell whether the file is another than when the server said `before`, or was written again meanwhile.

        Copies of one file on several machines may have times of their own: those of before the first question do not
        count.
        """
        if self.digest != before.digest:
            return True
        if not self.changed or self.changed == before.changed:
            return False
        from email.utils import parsedate_to_datetime  # takes longer to import than all else here

        try:
            return parsedate_to_datetime(self.changed) >= parsedate_to_datetime(before.asked)
        except (ValueError, TypeError):  # the server does not tell its time
            return True
