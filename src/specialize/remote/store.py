"""An object store: what lies below a path, and one file read or written at a time, whole or not at all."""

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from specialize.addresses import is_address
from specialize.atomic import replacing
from specialize.errors import MissingExtraError, OutputError, StoreError, did_you_mean, first_line
from specialize.events import Progress
from specialize.extras import missing_extra
from specialize.remote.address import Address

T = TypeVar("T")
# Seconds before a request that failed is repeated; the libraries of the stores repeat it, too. A store that has
# answered before is waited for longer: a long trace should outlast a short outage.
_PAUSES, _PAUSES_LATER = (0.5, 2.0), (0.5, 2.0, 8.0, 30.0, 60.0)
_PATIENCE = 30.0  # seconds after which a request is not repeated to a store that never answered
# what says that an object is another one than before: the first entry that a store has
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "oid", "sha256", "checksum")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_FINAL = ("EndpointConnectionError",)  # an address that is wrong


@dataclass(frozen=True)
class Stored:
    """An object in a store.

    Attributes:
        identity: differs if the contents are others, as far as the store says so.
        size: in bytes; -1 if the store does not say.
        kind: what the identity is: an entity tag, a time; empty if the store says neither.
    """

    identity: str
    size: int
    kind: str = ""

    def is_same(self, other: "Stored | None") -> bool:
        """Return whether another look found the same; what stores say in different words is compared by its size."""
        if other is None or self.size != other.size:
            return False
        return self.kind != other.kind or self.identity == other.identity


class _TransferError(Exception):
    """An OSError of the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Store:
    """The store of one protocol. Every error is a StoreError that names the address."""

    def __init__(self, protocol: str) -> None:
        self._files = _open(protocol)
        self._has_answered = False

    def list(self, address: Address) -> dict[str, Stored]:
        """Return the objects at and below an address by their names below it; that of the address itself is empty."""
        place = self._place(address)

        def find() -> Any:
            self._files.invalidate_cache()
            try:
                return self._files.find(place, detail=True)
            except FileNotFoundError as error:
                if _lacks_bucket(error):
                    raise
                return {}

        found = self._try(address, find, "listed")
        head = place.rstrip("/")
        return {
            name.rstrip("/").removeprefix(head).lstrip("/"): _describe(info)
            for name, info in found.items()
            if not name.endswith("/")  # of a folder, which some programs store
        }

    def look(self, address: Address) -> Stored | None:
        """Return what is stored at an address, None if there is nothing."""

        def info() -> Stored | None:
            self._files.invalidate_cache()
            try:
                found = self._files.info(self._place(address))
            except FileNotFoundError as error:
                if _lacks_bucket(error):
                    raise
                return None
            return _describe(found) if found.get("type", "file") == "file" else None

        return self._try(address, info, "read")

    def get(self, address: Address, path: Path, expected: Stored, *, progress: Progress | None = None) -> None:
        """Download an object to a file, which appears when it is whole.

        Args:
            address: of the object.
            path: of the file.
            expected: what was listed at the address.
            progress: called with the bytes that came, and all.

        Raises:
            StoreError: it cannot be read, or is another one than expected.
            OutputError: the file cannot be written.
        """

        def download() -> None:
            try:
                with replacing(path) as partial:
                    self._transfer(address, partial, progress)
                    size = partial.stat().st_size
                    if size != expected.size >= 0:
                        raise EOFError(f"{size:,} of {expected.size:,} bytes came")
            except _TransferError as failed:
                raise failed.error from None

        self._try(address, download, "read")
        if not expected.is_same(self.look(address)):
            path.unlink(missing_ok=True)
            raise StoreError(f"{address}: another process changed it while it was read; run the same command again")

    def _transfer(self, address: Address, path: Path, progress: Progress | None) -> None:
        try:
            self._files.get_file(self._place(address), str(path), **_calling(progress))
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            raise _TransferError(error) from error  # which is not taken for one of the disk

    def put(self, path: Path, address: Address, *, is_new: bool = False) -> Stored:
        """Store a file; a reader of the store sees the object before or the whole new one.

        Args:
            path: the file.
            address: where it goes.
            is_new: whether nothing may be there; a store that cannot say so replaces what is.

        Raises:
            StoreError: it cannot be written, or something is there.
        """

        def upload() -> None:
            mode = {"mode": "create"} if is_new else {}
            try:
                self._files.put_file(str(path), self._place(address), **mode)
            except (NotImplementedError, TypeError):
                if not is_new:
                    raise
                self._files.put_file(str(path), self._place(address))

        self._try(address, upload, "stored")
        stored = self.look(address)
        if stored is None or stored.size != path.stat().st_size:
            raise StoreError(f"{address}: expected it to be stored, found {'none' if stored is None else 'another'}")
        return stored

    def remove(self, address: Address) -> None:
        """Remove an object, if there is one."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._place(address))

        self._try(address, remove, "removed")

    def _place(self, address: Address) -> str:
        return str(self._files._strip_protocol(str(address)))

    def _try(self, address: Address, work: Callable[[], T], done: str) -> T:
        """Do something, again if that may help; what a library raises becomes one line."""
        begun = time.monotonic()
        for pause in (*(_PAUSES_LATER if self._has_answered else _PAUSES), None):
            try:
                result = work()
                self._has_answered = True
                return result
            except (StoreError, OutputError):
                raise
            except FileExistsError:
                raise StoreError(f"{address}: another process has stored it in the meantime; {BUSY}") from None
            except FileNotFoundError as error:
                raise StoreError(f"{address}: could not be {done}: {_reason(error) or 'not found'}") from None
            except PermissionError as error:
                raise StoreError(f"{address}: could not be {done}: {_reason(error)}; {CREDENTIALS}") from None
            except Exception as error:  # whatever the library of a store and the network raise
                name = type(error).__name__
                if "Credential" in name or "Token" in name:
                    raise StoreError(f"{address}: could not be {done}: {_reason(error)}; {CREDENTIALS}") from None
                is_late = name in _FINAL or time.monotonic() - begun > _PATIENCE
                if pause is None or (is_late and not self._has_answered):
                    raise StoreError(
                        f"{address}: could not be {done} ({name}: {_reason(error)}); run the same command again when "
                        "the store can be reached"
                    ) from None
                time.sleep(pause)
        raise AssertionError


BUSY = "wait for that process to finish, then run the same command again"
CREDENTIALS = "check the credentials, which the store's library reads from the environment"


@cache
def open_store(protocol: str) -> Store:
    """Return the store of a protocol.

    Raises:
        MissingExtraError: its package is not installed.
        StoreError: the protocol is unknown.
    """
    return Store(protocol)


def _open(protocol: str) -> Any:
    try:
        import fsspec
    except ModuleNotFoundError:
        raise missing_extra("fsspec") or AssertionError from None
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ValueError:
        known = fsspec.available_protocols()
        raise StoreError(
            f"{protocol}://: expected the protocol of a store, such as s3, gs or memory.{did_you_mean(protocol, known)}"
        ) from None
    except ImportError as error:
        missing = error.__cause__ or error.__context__ or error
        raise missing_extra(getattr(missing, "name", None)) or MissingExtraError(
            f"{protocol}://: needs a package that is not installed ({first_line(error)}): "
            f"pip install {getattr(missing, 'name', None) or first_line(error)}"
        ) from None
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a") and "config_kwargs" not in fsspec.config.conf.get("s3", {}):
        options["config_kwargs"] = {"retries": {"max_attempts": 0}}  # s3fs repeats what fails, botocore not again
    try:
        return kind(**options)
    except Exception as error:  # whatever it lacks: a project, an account
        raise StoreError(f"{protocol}://: could not be opened: {_reason(error)}; {CREDENTIALS}") from None


def _calling(progress: Progress | None) -> dict[str, Any]:
    """Return the argument of fsspec that reports the bytes of a transfer."""
    if progress is None:
        return {}
    from fsspec.callbacks import Callback

    return {"callback": Callback(hooks={"show": lambda size, value, **_: progress(value, size or value)})}


def _lacks_bucket(error: FileNotFoundError) -> bool:
    return "bucket does not exist" in str(error).lower()


def _describe(info: Any) -> Stored:
    size = -1 if info.get("size") is None else int(info["size"])
    for name in (*_TAGS, *_TIMES):
        value = info.get(name)
        if value:
            if isinstance(value, datetime):
                value = value.timestamp()
            text = f"{value:.3f}" if isinstance(value, float) else str(value).strip('"')
            return Stored(text, size, name.lower())
    return Stored("", size)


def _reason(error: BaseException) -> str:
    """Return what an error says, without the query of an address, which may hold a signature."""
    words = first_line(error).split(" ")
    return " ".join(word.split("?")[0] if is_address(word.lstrip("\"'(")) else word for word in words)
