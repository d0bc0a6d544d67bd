"""Which server is asked, and how. Importing this module is quick: it needs no httpx."""

import os
from dataclasses import dataclass
from numbers import Real
from urllib.parse import SplitResult, urlsplit

from specialize.choices import ServerApi, check_choice, check_positive
from specialize.errors import CaptureError, show_value

KEY = "SPECIALIZE_API_KEY"  # the environment variable with the API key
CONCURRENCY = 32
TIMEOUT = 300.0
_EXAMPLE = "http://localhost:8000"


@dataclass(frozen=True)
class ServerOptions:
    """Which server is asked, and how.

    Attributes:
        address: of the server, such as ``http://localhost:8000``, without ``/v1``.
        api: ``vllm`` or ``sglang``.
        served_model: name under which vLLM serves the model; default: as ``/v1/models`` lists it.
        concurrency: largest number of requests at a time.
        timeout: seconds to wait for an answer.

    Raises:
        CaptureError: a value is out of range, or the address holds a user name, a password or a query.
    """

    address: str
    api: ServerApi = "vllm"
    served_model: str | None = None
    concurrency: int = CONCURRENCY
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _read_address(self.address))
        check_choice("api", self.api, ServerApi, error=CaptureError)
        if self.served_model is not None and self.api != "vllm":
            raise CaptureError(
                "served_model: expected it only with the API vllm; SGLang serves one model: leave it out"
            )
        check_positive("concurrency", self.concurrency, error=CaptureError)
        if not isinstance(self.timeout, Real) or not 0 < self.timeout < float("inf"):  # NaN compares false
            raise CaptureError(f"timeout: expected a positive number of seconds, got {show_value(self.timeout)}")


def read_key() -> str | None:
    """Return the API key from the environment, None if there is none.

    Raises:
        CaptureError: it cannot be sent; the message does not show it.
    """
    key = os.environ.get(KEY)
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CaptureError(
            f"{KEY}: expected an API key of ASCII characters without spaces or line breaks, got others; set the "
            "environment variable again"
        )
    return key


def _read_address(address: object) -> str:
    """Return the address of a server without the path of its API; nothing that may be secret is shown or kept."""
    if not isinstance(address, str):
        raise CaptureError(f"server: expected an address such as {_EXAMPLE}, got {show_value(address)}")
    if "@" in address:
        raise CaptureError(
            f"server: expected an address without a user name and a password, such as {_EXAMPLE}; set an API key as "
            f"the environment variable {KEY}"
        )
    parts = _split(address.strip())
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        shown = "" if "?" in address or "#" in address else f", got {show_value(address)}"  # a query may hold a key
        raise CaptureError(f"server: expected an address such as {_EXAMPLE}, without a query{shown}")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 (raises ValueError if it is not a number)
    except ValueError:
        return None
    clean = address.isascii() and address.isprintable() and " " not in address
    return parts if clean else None
