"""Requests to a server: many at once, sent again where that may help.

They run in an event loop of a thread of their own, so that this works in a notebook, whose thread has a loop already,
and so that an interrupt of the main thread ends them.
"""

import asyncio
import json
import random
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from specialize.errors import CaptureError, first_line
from specialize.text import clean_text

ATTEMPTS = 8
FIRST_DELAY = 0.5  # seconds, doubled from attempt to attempt
LONGEST_DELAY = 30.0
LONGEST_ASKED_DELAY = 600.0  # seconds that a server may ask for
_SECONDS_BETWEEN_UPDATES = 0.25
_SENT_AGAIN = {408, 425, 429, *range(500, 600)}
_LARGEST_MESSAGE = 2**16  # bytes that are read of an error
_LONGEST_CONNECT = 30.0  # seconds
_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class TryAgainError(Exception):
    """An answer that cannot be used, where another one may: broken off, or to another request."""


class RejectedError(CaptureError):
    """A request that the server rejects, whenever it is sent.

    Attributes:
        status: of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Sends requests with JSON to a server; a context manager.

    Args:
        address: of the server.
        concurrency: largest number of requests at a time.
        timeout: seconds to wait for an answer.
        key: API key, sent as a bearer token.

    Attributes:
        sent_again: number of requests that were sent again, each time counted.
        last_reason: why the last of them was.
    """

    def __init__(self, address: str, *, concurrency: int, timeout: float, key: str | None = None) -> None:
        self.address = address
        self.concurrency = concurrency
        self.sent_again = 0
        self.last_reason = ""
        self._timeout = timeout
        self._key = key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server-client", daemon=True)
        # without TLS there is nothing to verify, and loading the certificates takes a while
        self._certificates = httpx.create_ssl_context() if urlsplit(address).scheme == "https" else False
        self._proxy = _find_proxy(address)
        self._headers = {"Accept": "application/json", "User-Agent": "specialize"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._extensions = {"timeout": httpx.Timeout(timeout, connect=min(timeout, _LONGEST_CONNECT)).as_dict()}
        # Without the client on top, which spends a quarter of a request's time on cookies, redirects and the like; and
        # with a connection each, since what a pool does for a request grows with its connections
        self._connections: list[httpx.AsyncHTTPTransport] = []
        self._free: list[httpx.AsyncHTTPTransport] = []

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop, and wait for it."""
        return self.wait(asyncio.run_coroutine_threadsafe(work, self._loop))

    def wait(self, future: "Future[T]", *, meanwhile: Callable[[], None] = lambda: None) -> T:
        """Wait for what the event loop computes, and cancel it where the wait is interrupted.

        Args:
            future: of the result.
            meanwhile: called in this thread several times a second, and at the end.
        """
        try:
            while not wait([future], timeout=_SECONDS_BETWEEN_UPDATES).done:
                meanwhile()
            meanwhile()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        read: Callable[[Any], T],
        largest: int,
        is_first: bool = False,
    ) -> T:
        """Send a request, again and again for as long as that may help, and return what is read from its answer.

        Args:
            path: of the server.
            body: JSON to post; default: a GET request.
            read: takes the JSON of the answer; raises TryAgainError for one that cannot be used.
            largest: bytes that an answer may have.
            is_first: whether the server has not answered before, so that one without a connection is down.

        Raises:
            RejectedError: the server rejects the request.
            CaptureError: the server is down, or failed several times.
        """
        reason = ""
        for attempt in range(ATTEMPTS):
            delay = random.uniform(0.5, 1) * min(LONGEST_DELAY, FIRST_DELAY * 2**attempt)
            try:
                status, headers, data = await self._send(path, body, largest)
                if status == 200:
                    return read(_parse(data))
                reason = f"status {status}{self._message(data)}"
                if status not in _SENT_AGAIN:
                    message = f"{self.address}{path}: the server rejected the request with {reason}{_hint(status)}"
                    raise RejectedError(message, status)
                delay = max(delay, _asked_delay(headers))
            except TryAgainError as error:
                reason = str(error)
            except httpx.LocalProtocolError as error:
                raise CaptureError(f"{self.address}{path}: could not be asked: {first_line(error)}") from None
            except httpx.RequestError as error:
                if is_first and isinstance(
                    error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol
                ):
                    raise CaptureError(
                        f"{self.address}: expected a server there, found none ({self._describe(error)}); start it, or "
                        "correct the address"
                    ) from None
                reason = self._describe(error)
            if attempt < ATTEMPTS - 1:
                self.sent_again += 1
                self.last_reason = reason
                await asyncio.sleep(delay)
        raise CaptureError(
            f"{self.address}{path}: a request failed {ATTEMPTS} times, the last time with {reason}; what is written is "
            "kept: repeat the same command once the server answers"
        )

    async def _send(
        self, path: str, body: Mapping[str, Any] | None, largest: int
    ) -> tuple[int, httpx.Headers, bytearray]:
        address, kind = _parse_address(self.address + path), {} if body is None else _JSON
        request = httpx.Request(
            "GET" if body is None else "POST",
            address,
            content=None if body is None else json.dumps(body).encode(),
            headers={**self._headers, **kind},
            extensions=self._extensions,
        )
        connection = self._free.pop() if self._free else self._connect()
        try:
            response = await connection.handle_async_request(request)
            response.request = request  # its errors name it
            try:
                data = await _read(response, largest)
            finally:
                await response.aclose()
        finally:
            self._free.append(connection)
        return response.status_code, response.headers, data

    def _connect(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1)
        try:
            connection = httpx.AsyncHTTPTransport(verify=self._certificates, limits=limits, proxy=self._proxy)
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise CaptureError(
                f"{self.address}: expected a proxy that httpx can use in the environment (HTTP_PROXY, HTTPS_PROXY, "
                f"ALL_PROXY), got one that it cannot ({first_line(error)}); correct it, or set NO_PROXY for this server"
            ) from None
        self._connections.append(connection)
        return connection

    def _message(self, data: bytearray) -> str:
        """Return what an error of the server says, without the key, which some servers repeat."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            text = data[:1000].decode(errors="replace")
        else:
            for _ in range(3):
                if isinstance(value, dict):
                    value = next((value[name] for name in ("error", "message", "detail") if name in value), "")
            text = str(value)
        text = first_line(clean_text(text)) if text.strip() else ""
        text = text.replace(self._key, "…") if self._key else text
        return f" ({text})" if text else ""

    def _describe(self, error: Exception) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"no answer within {self._timeout:g} s"
        return clean_text(first_line(error))

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for connection in self._connections:
            await connection.aclose()


async def _read(response: httpx.Response, largest: int) -> bytearray:
    """Return the body of an answer, of an error the beginning."""
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if response.status_code != 200 and len(data) >= _LARGEST_MESSAGE:
            break
        if len(data) > largest:
            raise CaptureError(
                f"{response.url}: expected an answer of at most {largest:,} bytes, got a longer one; is this the "
                "server of the model?"
            )
    return data


def _parse(data: bytearray) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise TryAgainError(f"an answer of {len(data):,} bytes that is no JSON") from None


@lru_cache
def _parse_address(address: str) -> httpx.URL:
    return httpx.URL(address)


def _find_proxy(address: str) -> str | None:
    """Return the proxy that the environment sets for an address; None without one."""
    parts, proxies = urlsplit(address), getproxies()
    if any(map(proxy_bypass, (parts.hostname or "", parts.netloc))):  # NO_PROXY may have a port
        return None
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


def _hint(status: int) -> str:
    if status in (401, 403):
        return "; set the API key as the environment variable SPECIALIZE_API_KEY"
    if status in (301, 302, 307, 308, 404, 405):
        return "; correct --server or --api"
    return ""


def _asked_delay(headers: httpx.Headers) -> float:
    """Return the seconds that a server asks to wait for, as a number or a date; 0 if it does not."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_ASKED_DELAY)
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), LONGEST_ASKED_DELAY)
