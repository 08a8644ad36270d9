"""Downloads that survive a broken connection: the next attempt continues where one ended.

A server is asked for the rest of a file (`Range`), provided that it still has the version
that has begun to come (`If-Range`, RFC 9110 section 13.1.5). One that has another version, or
does not know of ranges, sends the whole file, and then what had come is dropped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import sleep
from typing import Final

import httpx

from recsys.data.partial import PartialFile
from recsys.data.sources import Source
from recsys.errors import DownloadError, NetworkError

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
# Uncompressed: what is counted and hashed is what comes over the wire.
_HEADERS: Final = {"Accept-Encoding": "identity"}
_PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds to wait before each further attempt when a connection breaks."""


class _BrokenError(NetworkError):
    """The connection broke in the midst of an answer."""


class _StaleError(Exception):
    """The server's answer does not continue what has come so far."""


def download(source: Source, part: PartialFile, on_bytes: Callable[[int], None]) -> None:
    """Complete a partial file and check that it holds the bytes on record.

    A connection that breaks is tried again a few times; one that cannot be made is not.

    Args:
        source: what to download.
        part: what has come so far; what comes is added to it.
        on_bytes: is told how many bytes there are, again and again.

    Raises:
        NetworkError: the network or the server gave no complete answer; what came is kept.
        DownloadError: the answer is an error, or not what is on record; of the latter nothing
            is kept.
    """
    for pause in (*_PAUSES, None):
        try:
            _receive(source, part, on_bytes)
            break
        except _BrokenError:
            if pause is None:
                raise
            sleep(pause)
    _verify(source, part)


def _receive(source: Source, part: PartialFile, on_bytes: Callable[[int], None]) -> None:
    """Ask for what is missing, all of it if need be, and write it as it comes."""
    n_bytes = part.n_bytes()
    if n_bytes == source.bytes:
        return
    version = part.version(source.sha256)
    if version is None or n_bytes > source.bytes:
        part.forget()
    wanted = {}
    if version is not None and part.n_bytes():
        wanted = {"Range": f"bytes={n_bytes}-", "If-Range": version}
    try:
        _append(source, part, wanted, on_bytes)
    except _StaleError:
        part.forget()
        _append(source, part, {}, on_bytes)


def _append(
    source: Source, part: PartialFile, wanted: Mapping[str, str], on_bytes: Callable[[int], None]
) -> None:
    with _answer(source, wanted) as response:
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            _check_continues(source, part, response)
        else:
            part.begin(source.sha256, _version(response))
        n_bytes = part.n_bytes()
        on_bytes(n_bytes)
        for chunk in _chunks(source, response):
            n_bytes += len(chunk)
            if n_bytes > source.bytes:
                raise _unexpected(source, part, f"more than the {source.bytes} bytes on record")
            part.file.write(chunk)
            on_bytes(n_bytes)


def _check_continues(source: Source, part: PartialFile, response: httpx.Response) -> None:
    first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    is_next = first is not None and int(first[1]) == part.n_bytes()
    # A server may know of Range and not of If-Range.
    if is_next and _version(response) in (None, part.version(source.sha256)):
        return
    if not part.n_bytes():
        raise _unexpected(source, part, "a part that was not asked for")
    raise _StaleError


def _version(response: httpx.Response) -> str | None:
    """What tells this version of a file from others, strictly enough for If-Range."""
    tag: str | None = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    date: str | None = response.headers.get("Last-Modified")
    return date


@contextmanager
def _answer(source: Source, wanted: Mapping[str, str]) -> Iterator[httpx.Response]:
    """Ask the server; give its answer, the body still to come, unless it is an error."""
    url = source.url
    with ExitStack() as stack:
        try:
            client = stack.enter_context(
                httpx.Client(headers=_HEADERS, timeout=_TIMEOUT, follow_redirects=True)
            )
            response = stack.enter_context(client.stream("GET", url, headers=wanted))
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise _refusal(url, error.response.status_code, wanted) from error
        except httpx.TransportError as error:
            raise NetworkError(f"{_reason(url, error)} and try again") from error
        # Bad proxy or certificate settings come as an ImportError, a ValueError or an OSError.
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError, OSError) as error:
            raise DownloadError(
                f"{url} could not be fetched: {error}; check the address and the proxy settings"
            ) from error
        yield response


def _refusal(url: str, code: int, wanted: Mapping[str, str]) -> Exception:
    if wanted and code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _StaleError()
    kind = NetworkError if code >= httpx.codes.INTERNAL_SERVER_ERROR else DownloadError
    remedy = "try again later, or see whether the address is still right"
    return kind(f"{url} could not be fetched: the server answered {code}; {remedy}")


def _chunks(source: Source, response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()
    except httpx.TransportError as error:
        remedy = "and try again: what has come is kept"
        raise _BrokenError(f"{_reason(source.url, error)} {remedy}") from error


def _reason(url: str, error: httpx.TransportError) -> str:
    what = str(error) or type(error).__name__
    return f"{url} could not be fetched: {what}; check the network connection"


def _verify(source: Source, part: PartialFile) -> None:
    if (n_bytes := part.n_bytes()) != source.bytes:
        raise _unexpected(source, part, f"{n_bytes} bytes, not the {source.bytes} on record")
    part.file.seek(0)
    if (found := hashlib.file_digest(part.file, "sha256").hexdigest()) != source.sha256:
        raise _unexpected(source, part, f"SHA-256 {found}, not the {source.sha256} on record")


def _unexpected(source: Source, part: PartialFile, what: str) -> DownloadError:
    part.forget()
    remedy = f"something on the way altered it, or its makers did; try again, or see {source.home}"
    return DownloadError(f"{source.url} gave {what}: {remedy}")
