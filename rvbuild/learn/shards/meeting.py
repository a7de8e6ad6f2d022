"""Where the processes of a training find each other: a file of one machine, or a port of the first one's."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist

from rvbuild.errors import PeerLostError

PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for one that has stopped without being gone. Whoever starts them sees the end of each."""
_COMING = datetime.timedelta(minutes=5)
"""How long it waits for those on other machines to come, which may still start."""

_TRY_EVERY_S = 0.2
_INTERFACE = "GLOO_SOCKET_IFNAME"
_SIOCGIFADDR = 0x8915


class Meeting(Protocol):
    """A place at which processes exchange their addresses."""

    def store(self, rank: int, processes: int) -> Any:
        """Return what they exchange them by."""

    def interface(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which gloo uses the network interface by which they reach each other."""


@dataclass(frozen=True)
class Here:
    """A file, for processes of one machine; it does not exist before."""

    file: Path

    def store(self, rank: int, processes: int) -> Any:
        """Return a store in the file."""
        return dist.FileStore(str(self.file), processes)  # type: ignore[attr-defined]

    def interface(self) -> contextlib.AbstractContextManager[None]:
        """Use the loopback interface."""
        names = (name for _, name in socket.if_nameindex() if name.startswith("lo"))
        return _using(next(names, "lo"))


@dataclass(frozen=True)
class There:
    """A port of the machine of the first process."""

    host: str
    port: int

    def store(self, rank: int, processes: int) -> Any:
        """Return a store that the first process serves.

        Raises
        ------
        PeerLostError
            They do not meet there.
        """
        if rank:
            self._wait_for_first()
        try:
            return dist.TCPStore(self.host, self.port, processes, rank == 0, _COMING)  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise self._missed(error) from error

    def _wait_for_first(self) -> None:
        """Wait until the first process listens: torch itself would try again after half a minute only."""
        until = time.monotonic() + _COMING.total_seconds()
        while True:
            try:
                socket.create_connection((self.host, self.port), 10).close()
                return
            except OSError as error:
                if time.monotonic() > until:
                    raise self._missed(error) from error
                time.sleep(_TRY_EVERY_S)

    def _missed(self, error: Exception) -> PeerLostError:
        return PeerLostError(
            f"the processes of the training do not meet at {self.host}:{self.port} within "
            f"{_COMING.total_seconds() / 60:.0f} minutes; can their machines reach each other's ports? ({error})"
        )

    def interface(self) -> contextlib.AbstractContextManager[None]:
        """Use the interface by which this machine reaches that of the first process."""
        return _using(_interface_to(self.host, self.port))


@contextlib.contextmanager
def _using(interface: str | None) -> Iterator[None]:
    """Let gloo use an interface, unless the user has named one."""
    if interface is None or _INTERFACE in os.environ:
        yield
        return
    os.environ[_INTERFACE] = interface
    try:
        yield
    finally:
        del os.environ[_INTERFACE]


def _interface_to(host: str, port: int) -> str | None:
    """Return the name of the interface by which a host is reached; None if it is unknown, and gloo chooses."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        ours = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24]) == ours:
                    return name
    return None
