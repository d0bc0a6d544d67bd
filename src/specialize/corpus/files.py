"""Files as bytes: gzip, xz and zstd are decompressed, and damage and a file that would fill the memory are noticed."""

import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from specialize.corpus.limits import expands_beyond_reason
from specialize.errors import CorpusError, first_line
from specialize.text import format_bytes

COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
_BYTES_AT_ONCE = 2**17
_MEMORY_OF_XZ = 2**30  # bytes; the highest level takes 65 MiB


def check_regular(path: Path, name: str) -> None:
    """Raise CorpusError for what is no file: a pipe, a device, a socket, a broken link."""
    try:
        is_regular = path.is_file()
    except OSError as error:
        raise CorpusError(f"{name}: expected a readable file, got: {error.strerror or error}") from None
    if not is_regular:
        raise CorpusError(
            f"{name}: expected a regular file, got {_kind_of_path(path)}; save its contents as a file first"
        )


def _kind_of_path(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a broken link" if path.is_symlink() else "nothing"
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a folder")


@contextmanager
def open_intact(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed if its name says that it is compressed.

    Reading raises CorpusError if a compressed file is damaged, or expands beyond any reason.

    Args:
        path: the file.
        name: of the file, for messages.
    """
    kind = COMPRESSIONS.get(path.suffix.lower())
    with path.open("rb") as raw:
        if kind is None:
            yield raw
        else:
            with io.BufferedReader(_Expanded(raw, kind, name), _BYTES_AT_ONCE) as file:
                yield file


class _Expanded(io.RawIOBase):
    """What a compressed file holds; its parts (members, streams, frames) follow one another."""

    def __init__(self, raw: IO[bytes], kind: str, name: str) -> None:
        self._raw, self._kind, self._name = raw, kind, name
        self._expanded = 0
        self._packed: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            if self._packed is None:  # here, as the first bytes may be damaged
                self._packed = _open_packed(self._raw, self._kind)
            data = self._packed.read(min(len(buffer), _BYTES_AT_ONCE))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk
                raise
            raise CorpusError(
                f"{self._name}: expected an intact {self._kind} file, got a damaged one ({first_line(error):.300})"
            ) from None
        self._expanded += len(data)
        read = self._raw.tell()
        if expands_beyond_reason(self._expanded, read):
            raise CorpusError(
                f"{self._name}: expected compressed text, got {format_bytes(read)} that expand to "
                f"{format_bytes(self._expanded)}; decompress the file and look at what it holds"
            )
        buffer[: len(data)] = data
        return len(data)


def _open_packed(raw: IO[bytes], kind: str) -> Any:
    if kind == "zstd":
        return pa.CompressedInputStream(raw, "zstd")
    return gzip.GzipFile(fileobj=raw) if kind == "gzip" else _Xz(raw)


class _Xz:
    """The streams of an xz file; `lzma.LZMAFile` would take damage after the first one for the end."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._stream = lzma.LZMADecompressor(memlimit=_MEMORY_OF_XZ)

    def read(self, size: int) -> bytes:
        while True:
            data = b""
            if self._stream.eof:
                data = self._find_next_stream()
                if not data:
                    return b""
                self._stream = lzma.LZMADecompressor(memlimit=_MEMORY_OF_XZ)
            elif self._stream.needs_input:
                data = self._raw.read(_BYTES_AT_ONCE)
                if not data:
                    raise EOFError("its end is missing")
            found = self._stream.decompress(data, size)
            if found:
                return found

    def _find_next_stream(self) -> bytes:
        """Return the bytes after a stream without the zeros that may lie between streams; none at the end."""
        data = self._stream.unused_data.lstrip(b"\0")
        while not data:
            block = self._raw.read(_BYTES_AT_ONCE)
            if not block:
                break
            data = block.lstrip(b"\0")
        return data
