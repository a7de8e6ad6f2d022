"""Who may ask the server: the browser that was given the token, under the address of this machine alone."""

from __future__ import annotations

import hmac
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""With every answer: nothing of the page comes from elsewhere, and nobody else shows it."""


class Access:
    """Middleware that refuses what does not come from the user's own page.

    * A request names this machine in `Host`: a name of somebody's that leads here (DNS rebinding) is refused.
    * It has the token, in the address the first time, in a cookie after that. The browser that is started here has an
      address of its own, which works once: command lines of programs can be seen by other users of the machine.
    * A request that changes something comes from the page itself, by its `Origin`: other pages of this machine share
      its site, so `SameSite` does not keep them off.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, once: str = "") -> None:
        """Guard `app`. `once` is another token for the address, which opens the page one time."""
        self._app, self._token, self._once = app, token, once
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"rvbuild_view_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> PlainTextResponse | RedirectResponse | None:
        host = headers.get("host", "")
        if host not in self._hosts:
            return PlainTextResponse("This page answers at 127.0.0.1 only.\n", status_code=403)
        if scope["method"] not in ("GET", "HEAD") and headers.get("origin") != f"http://{host}":
            return PlainTextResponse("Only the page itself may ask for this.\n", status_code=403)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._opens(given):
            # The token leaves the address, and so the history and what is copied from there.
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return answer
        cookies: SimpleCookie = SimpleCookie()
        cookies.load(headers.get("cookie", ""))
        known = cookies.get(self._cookie)
        if known is None or not self._is_token(known.value):
            return PlainTextResponse(
                "The address lacks the token: open the one that `rvbuild view` has printed.\n", status_code=403
            )
        return None

    def _opens(self, given: str) -> bool:
        """Tell whether a token in the address opens the page."""
        if self._once and hmac.compare_digest(given.encode("utf-8", "replace"), self._once.encode()):
            self._once = ""
            return True
        return bool(given) and self._is_token(given)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._token.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return sending
