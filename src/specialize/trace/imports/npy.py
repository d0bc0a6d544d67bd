"""NumPy's files, with their declared sizes checked before memory is allocated."""

import io
import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from specialize.corpus.limits import expands_beyond_reason
from specialize.trace.imports.source import guard_parser

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load_array(file: Path) -> NDArray[Any]:
    """Open a .npy file through a memory map.

    Raises:
        TraceError: the file is not an .npy file, is truncated, or holds Python objects.
    """
    with guard_parser(file, "an intact .npy file of numbers"), _quiet_headers():
        array: NDArray[Any] = np.lib.format.open_memmap(file, mode="r")  # never objects, and no archive
    return array


def load_archive(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz by name.

    Raises:
        TraceError: the file is no .npz, is damaged, or has a member that is no array of numbers.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with guard_parser(path, "an .npz of arrays of numbers"), _quiet_headers(), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if expands_beyond_reason(sum(member.file_size for member in members), path.stat().st_size):
            raise ValueError("zeros, or a file made to fill the memory: it expands more than 200-fold")
        for member in members:
            if not member.filename.endswith(".npy"):
                raise ValueError(f"a member {member.filename!r:.60}")
            with archive.open(member) as file:
                _check_size(file, member.file_size)
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"two members {member.filename!r:.60}")
            with archive.open(member) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def read_array(data: bytes) -> NDArray[Any]:
    """Read the contents of an .npy file.

    Raises:
        ValueError: they are something else, are truncated, or hold Python objects; or whatever NumPy raises for a
            damaged header.
    """
    start = _end_of_header(data)
    shape, is_transposed, dtype = _parse_header(data[:start])
    if dtype.hasobject:
        raise ValueError("Python objects, which are not unpickled")
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a file of {len(data):,} bytes that declares {dtype} {list(shape)}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if is_transposed else "C")


def _end_of_header(data: bytes) -> int:
    """Return where the array of an .npy file begins."""
    width = 2 if data[6:7] == b"\x01" else 4
    return 8 + width + int.from_bytes(data[8 : 8 + width], "little")


@lru_cache(256)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the first axis varies fastest, and the type; the same ones come again and again."""
    with _quiet_headers():
        return _read_header(io.BytesIO(header))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the .npy format")
    shape, is_transposed, dtype = _HEADERS[version](file)
    return shape, is_transposed, dtype


@contextmanager
def _quiet_headers() -> Iterator[None]:
    """Leave out NumPy's warning that a header was written by Python 2: what it says is read all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Reading `.npy` or `.npz` file required additional header parsing")
        yield


def _check_size(file: IO[bytes], size: int) -> None:
    """Raise ValueError if the header declares more bytes than the member of an archive has."""
    shape, _, dtype = _read_header(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"a member of {size:,} bytes that declares {dtype} {list(shape)}")
