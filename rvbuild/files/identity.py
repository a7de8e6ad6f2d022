"""The identity of the state of a remote file, and the error if a server does not provide it."""

from __future__ import annotations

from dataclasses import dataclass, field


class UnreachableError(Exception):
    """A server did not answer, or did not send the file; the message gives the reason."""


CONTENT = "content"
"""The value of `Identity.by` for a file that was downloaded."""


@dataclass(frozen=True)
class Identity:
    """Identifies one state of a file.

    Attributes
    ----------
    by : str
        `ETag`, `Last-Modified and size`, or `content`.
    digest : str
        32 hex digits: the digest of the content, or of the address, the size and the headers of the server.
    changed : str
        Time of the last change according to the server, whether or not it is part of the digest; may be empty.
    requested : str
        Time of the request by the server's clock; may be empty.
    """

    by: str
    digest: str
    changed: str = field(default="", compare=False)
    requested: str = field(default="", compare=False)

    def is_other_than(self, before: Identity) -> bool:
        """Tell whether the file differs from its state `before`, or was written again since.

        Copies of one file on several machines may have different times; times before the first request do not
        count.
        """
        if self.digest != before.digest:
            return True
        if not self.changed or self.changed == before.changed:
            return False
        from email.utils import parsedate_to_datetime  # imported late: it takes longer than all other imports here

        try:
            return parsedate_to_datetime(self.changed) >= parsedate_to_datetime(before.requested)
        except (ValueError, TypeError):  # the server does not send its time
            return True
