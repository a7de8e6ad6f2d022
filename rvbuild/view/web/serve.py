"""The server of the page: on this machine alone, with a token in the address."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

import rasterio.env
import uvicorn

from rvbuild.errors import ProjectError, UsageError
from rvbuild.view.looking import Looking
from rvbuild.view.web.app import View

GDAL_CACHE_BYTES = 96 << 20
"""Decoded blocks of all files that are open."""

HOST = "127.0.0.1"


def serve(
    path: Path, overrides: Sequence[str], *, port: int, opens: bool, trust: bool, say: Callable[[str], None]
) -> None:
    """Show a project until Ctrl-C.

    Parameters
    ----------
    path, overrides
        The project file, and keys that are overridden.
    port
        0 for any that is free.
    opens
        Whether the browser is opened.
    trust
        The user trusts the code of the workspace.
    say
        Is told the address.

    Raises
    ------
    UsageError
        The port is taken.
    """
    if not path.is_file():
        raise ProjectError([f"{path}: there is no such file"])
    looking = Looking(path, overrides, trust)
    listening = _listen(port)
    port = listening.getsockname()[1]
    token, once = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    looking.look()
    view = View(looking, trust)
    config = uvicorn.Config(
        view.application(token, port, once if opens else ""),
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=2,
        ws="none",
        proxy_headers=False,
        server_header=False,
    )
    address = f"http://{HOST}:{port}/?token="
    say(f"{path} is shown at {address}{token}")
    say("press Ctrl-C to end")
    for problem in looking.seen.problems:
        say(problem)
    if opens:
        webbrowser.open(f"{address}{once}")
    try:
        with rasterio.env.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
            _Server(config, view).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        view.close()
        listening.close()


class _Server(uvicorn.Server):
    """A server that ends the streams of events when it ends."""

    def __init__(self, config: uvicorn.Config, view: View) -> None:
        super().__init__(config)
        self._view = view

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._view.events.close()
        await super().shutdown(sockets)


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)  # from now on, who comes early waits
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(
            f"--port {port}: cannot be used ({error}); choose another, or 0 for any that is free"
        ) from error
    return listening
