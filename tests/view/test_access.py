"""Who may ask the server."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rvbuild.view.web.access import Access

from .conftest import Client

PORT, TOKEN, ONCE = 8123, "a-token", "another-token"
HOME = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def client() -> Client:
    def answer(_request: object) -> PlainTextResponse:
        return PlainTextResponse("secret")

    routes = [Route("/", answer), Route("/api/build", answer, methods=["GET", "POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(Access, token=TOKEN, port=PORT, once=ONCE)])
    return Client(app, HOME)


def enter(client: Client) -> None:
    assert client.get(f"/?token={TOKEN}").status_code == 303


@pytest.mark.parametrize("path", ["/", "/api/build", "/?token=wrong", f"/api/build?token={TOKEN}", "/nowhere"])
def test_without_the_token_nothing_is_shown(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 403 and "secret" not in answer.text


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(client: Client) -> None:
    answer = client.get(f"/?token={TOKEN}")
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert f"rvbuild_view_{PORT}={TOKEN}" in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert client.get("/").text == "secret"


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""])
def test_a_name_of_somebody_else_that_leads_here_is_refused(client: Client, host: str) -> None:
    enter(client)
    assert client.get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin", [None, "null", "http://127.0.0.1:9999", "http://evil.example", f"https://127.0.0.1:{PORT}"]
)
def test_only_the_page_itself_changes_something(client: Client, origin: str | None) -> None:
    enter(client)
    headers = {} if origin is None else {"Origin": origin}
    assert client.post("/api/build", headers=headers).status_code == 403
    assert client.post("/api/build", headers={"Origin": HOME}).text == "secret"


def test_the_address_that_the_browser_is_started_with_works_once(client: Client) -> None:
    assert client.get(f"/?token={ONCE}").status_code == 303
    assert client.get("/").text == "secret"
    other = Client(client.app, HOME)
    assert other.get(f"/?token={ONCE}").status_code == 403
    assert other.get("/?token=").status_code == 403


def test_nothing_comes_from_elsewhere(client: Client) -> None:
    enter(client)
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
