"""Requests to servers: the identity of remote files, and the content of small files.

Only the standard library is used, and `s3fs` for buckets that need a signature.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import xxhash

from rvbuild.files.address import url_problem
from rvbuild.files.identity import CONTENT, Identity, UnreachableError
from rvbuild.process.threads import map_threads, within

TIMEOUT_S = 20.0
ATTEMPTS, PAUSE_S = 3, 0.3
"""A request that fails for a transient reason is repeated after a pause, which doubles each time."""

LIMIT_S, CONTENT_LIMIT_S = 60.0, 3600.0
"""Time limits of a whole response, and of a full download, in seconds."""

THREADS = 16
"""Maximum number of concurrent requests."""

MAX_TEXT_BYTES = 64 << 20

MAX_CONTENT_BYTES = 4 << 30
"""Largest file that is downloaded in every run because its server does not report its state."""

_CHUNK_BYTES = 1 << 20
_PAGE = re.compile(rb"(?i)\s*<(?:!doctype\s+html|html)\b")
_HEADERS = {"User-Agent": "rvbuild", "Accept-Encoding": "identity"}

T = TypeVar("T")


class SilentError(UnreachableError):
    """A server did not answer in time."""


def identities(urls: Iterable[str]) -> dict[str, Identity | UnreachableError | None]:
    """Return url -> identity of the file or the error, see `identity`; requests run concurrently."""
    distinct = list(dict.fromkeys(urls))

    silent: dict[str, UnreachableError] = {}  # by server: only one request waits for a server that does not answer

    def request(url: str) -> Identity | UnreachableError | None:
        server = url.partition("://")[2].partition("/")[0]
        if server in silent:
            return silent[server]
        try:
            return identity(url)
        except SilentError as error:
            silent[server] = error
            return error
        except UnreachableError as error:
            return error

    return dict(zip(distinct, map_threads(request, distinct, THREADS), strict=True))


def identity(url: str) -> Identity | None:
    """Return the identity of the current state of a file; None if the server reports that there is no such file.

    A strong ETag identifies the content. Otherwise the time of the last change and the size do, with a weak ETag if
    there is one. Without either, the file is downloaded completely.

    Raises
    ------
    UnreachableError
        The address is invalid, the server does not answer or refuses, or a file that must be downloaded is a web
        page or larger than `MAX_CONTENT_BYTES`.
    """
    _require_address(url)
    signed = _bucket(url)
    if signed is not None:
        return _signed(url, *signed)
    address = _http(url)
    headers = _repeated(lambda: _head(address))
    if headers is None:
        return None
    etag, changed, size, requested = headers
    times = {"changed": changed, "requested": requested}
    if etag and not etag.startswith("W/"):
        return _identity(url, "ETag", etag, size, **times)
    if changed and size:
        return _identity(url, "Last-Modified and size", changed, etag, size, **times)
    return _repeated(lambda: _content(address), CONTENT_LIMIT_S)


def read(url: str) -> bytes | None:
    """Return the content of a small file; None if the server reports that there is no such file.

    Raises
    ------
    UnreachableError
        The address is invalid, the server does not answer or refuses, or the file has more than
        `MAX_TEXT_BYTES`.
    """
    _require_address(url)
    signed = _bucket(url)
    if signed is not None:
        filesystem, key = signed
        return _request_bucket(lambda: bytes(filesystem.cat_file(key)))
    address = _http(url)

    def get() -> bytes | None:
        with _open(address, "GET") as answer:
            text: bytes = answer.read(MAX_TEXT_BYTES + 1)
        if len(text) > MAX_TEXT_BYTES:
            raise UnreachableError(f"has more than {MAX_TEXT_BYTES:,} bytes")
        return text

    return _repeated(get)


def _require_address(url: str) -> None:
    """Raise an error for an invalid address, which may come from a user, a STAC item or a damaged seal."""
    if problem := url_problem(url):
        raise UnreachableError(problem)


def _identity(url: str, by: str, *facts: str, **times: str) -> Identity:
    text = "\n".join([url, by, *facts])
    return Identity(by, xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass")), **times)


def _head(address: str) -> tuple[str, str, str, str] | None:
    """Return ETag, time of the last change, size and the server's time; each is empty if missing."""
    try:
        answer = _open(address, "HEAD")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            return None
        # Some servers only support GET, or sign addresses for GET only.
        answer = _open(address, "GET", {"Range": "bytes=0-0"})
    with answer:
        headers = answer.headers
        size = headers.get("Content-Length", "")
        if answer.status == 206:
            size = headers.get("Content-Range", "").rpartition("/")[2]
        etag, changed, now = (headers.get(name, "").strip() for name in ("ETag", "Last-Modified", "Date"))
        return etag, changed, size.strip("* "), now


def _content(address: str) -> Identity:
    state, read = xxhash.xxh3_128(), 0
    with _open(address, "GET") as answer:
        size = answer.headers.get("Content-Length", "")
        if size.isdecimal() and int(size) > MAX_CONTENT_BYTES:
            raise _too_large(f"{int(size):,}")
        while chunk := answer.read(_CHUNK_BYTES):
            if not read and _PAGE.match(chunk):
                raise UnreachableError("is a web page, not a data file; is it the address of the download?")
            read += len(chunk)
            if read > MAX_CONTENT_BYTES:
                raise _too_large(f"more than {MAX_CONTENT_BYTES:,}")
            state.update(chunk)
    return Identity(CONTENT, state.hexdigest())


def _too_large(size: str) -> UnreachableError:
    return UnreachableError(
        f"has {size} bytes and would be downloaded in every run, because the server sends neither a strong ETag "
        "nor the size and the time of the last change; download it once, or use a server that sends them"
    )


def _open(address: str, method: str, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(address, headers={**_HEADERS, **(headers or {})}, method=method)
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)


def _repeated(request: Callable[[], T | None], limit_s: float = LIMIT_S) -> T | None:
    """Return the response to a request, after retries if needed; None if there is no such file."""
    kind: type[UnreachableError] = UnreachableError
    began = time.monotonic()
    for attempt in range(ATTEMPTS):
        kind = UnreachableError
        try:
            return within(limit_s, request)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                return None
            reason = f"the server answers {error.code} {error.reason}"
            if error.code in (401, 403):
                raise UnreachableError(f"{reason}; do you have access?") from None
            if error.code < 500 and error.code != 429:
                raise UnreachableError(reason) from None
        except urllib.error.URLError as error:
            cause = error.reason
            reason = (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(cause)
            if isinstance(cause, socket.gaierror):
                raise UnreachableError(f"no such server ({reason})") from None
            reason = f"{reason}; is the server up?"
            kind = SilentError if isinstance(cause, TimeoutError) else kind
        except (OSError, http.client.HTTPException) as error:
            reason = f"{str(error) or type(error).__name__}; is the server up?"
            kind = SilentError if isinstance(error, TimeoutError) else kind
        except ValueError as error:  # it redirects to an invalid address, or sends an invalid number
            raise UnreachableError(f"the answer of the server is invalid ({error})") from None
        if time.monotonic() - began > limit_s:
            break
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE_S * 2**attempt)
    raise kind(reason)


# -- Buckets ----------------------------------------------------------------------------------------------------------


def _http(url: str) -> str:
    """Return the address for plain requests; a public bucket is addressed according to GDAL's variables."""
    if url.lower().startswith("gs://"):
        return f"{_gs_endpoint()}/{urllib.parse.quote(url[5:])}"
    if not url.lower().startswith("s3://"):
        server = urllib.parse.urlsplit(url).netloc
        if not server.isascii():
            url = url.replace(server, server.encode("idna").decode(), 1)
        return urllib.parse.quote(url, safe=":/?#[]@!$&'()*+,;=%~")
    bucket, _, key = url[5:].partition("/")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    host = os.environ.get("AWS_S3_ENDPOINT") or (f"s3.{region}.amazonaws.com" if region else "s3.amazonaws.com")
    scheme = "http" if os.environ.get("AWS_HTTPS", "YES").upper() in _NO else "https"
    key = urllib.parse.quote(key)
    if os.environ.get("AWS_VIRTUAL_HOSTING", "TRUE").upper() in _NO:
        return f"{scheme}://{host}/{bucket}/{key}"
    return f"{scheme}://{bucket}.{host}/{key}"


_NO = ("NO", "FALSE", "OFF", "0")


def _gs_endpoint() -> str:
    return os.environ.get("CPL_GS_ENDPOINT", "https://storage.googleapis.com").rstrip("/")


def _bucket(url: str) -> tuple[Any, str] | None:
    """Return the file system of a bucket that needs signed requests, and the key in it; None for any other address."""
    scheme = url.partition("://")[0].lower()
    public = {"s3": "AWS_NO_SIGN_REQUEST", "gs": "GS_NO_SIGN_REQUEST"}.get(scheme)
    if public is None or os.environ.get(public, "NO").upper() not in _NO:
        return None
    options: dict[str, Any]
    if scheme == "gs":
        # Google Cloud Storage accepts the signed requests of S3.
        key, secret = os.environ.get("GS_ACCESS_KEY_ID"), os.environ.get("GS_SECRET_ACCESS_KEY")
        if not (key and secret):
            raise UnreachableError(
                "no credentials: set GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY to an HMAC key of the bucket (Cloud "
                "Storage, Settings, Interoperability), or, for a public bucket, GS_NO_SIGN_REQUEST=YES"
            )
        options = {"key": key, "secret": secret, "endpoint_url": _gs_endpoint()}
    else:
        endpoint = os.environ.get("AWS_S3_ENDPOINT")
        protocol = "http" if os.environ.get("AWS_HTTPS", "YES").upper() in _NO else "https"
        options = {"endpoint_url": f"{protocol}://{endpoint}" if endpoint else None}
    try:
        import s3fs
    except ImportError:
        raise UnreachableError(
            'the package s3fs, which signs requests, is not installed: pip install "rvbuild[s3]"; for a public bucket, '
            f"set {public}=YES"
        ) from None
    # No retries around the retries of the library: five times five attempts would take six minutes.
    config = {"connect_timeout": 10, "read_timeout": TIMEOUT_S, "retries": {"max_attempts": 1}}
    filesystem = s3fs.S3FileSystem(**options, config_kwargs=config)
    filesystem.retries = 1
    return filesystem, url[5:]


def _signed(url: str, filesystem: Any, key: str) -> Identity | None:
    """Return the identity of a file in a bucket that needs signed requests, or None if there is no such file."""
    info = _request_bucket(lambda: filesystem.info(key, refresh=True))
    if info is None or info.get("type") == "directory":
        return None
    changed, size = str(info.get("LastModified")), str(info.get("size"))
    if etag := str(info.get("ETag") or ""):
        return _identity(url, "ETag", etag, size, changed=changed)
    return _identity(url, "Last-Modified and size", changed, "", size, changed=changed)


def _request_bucket(request: Callable[[], T]) -> T | None:
    try:
        return within(LIMIT_S, request)
    except FileNotFoundError:
        return None
    except TimeoutError as error:
        raise SilentError(f"{error}; is the server up?") from None
    except Exception as error:  # errors of botocore have no public base class
        raise UnreachableError(f"{type(error).__name__}: {error}") from None
