"""Records of tokens in another order than that of the corpus: in memory if they are few, else in a temporary file."""

from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 16 * 2**20  # in memory


class Scratch:
    """Records with places from 0, which are written and read a range at a time; use as a context manager.

    Args:
        rows: number of records.
        dtype: type of a record.
    """

    def __init__(self, rows: int, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._held: NDArray[Any] | None = None
        self._file: IO[bytes] | None = None
        if rows * dtype.itemsize <= MOST_BYTES:
            self._held = np.zeros(rows, dtype=dtype)
        else:
            self._file = TemporaryFile()  # noqa: SIM115 (closed at the end of the context)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, first: int, records: NDArray[Any]) -> None:
        """Write records to consecutive places."""
        if self._held is not None:
            self._held[first : first + len(records)] = records
        elif self._file is not None:
            self._file.seek(first * self._dtype.itemsize)
            self._file.write(np.ascontiguousarray(records, dtype=self._dtype.base).data)

    def read(self, first: int, end: int) -> NDArray[Any]:
        """Read the records of consecutive places."""
        if self._held is not None or self._file is None:
            return np.asarray(self._held)[first:end]
        self._file.seek(first * self._dtype.itemsize)
        return np.frombuffer(self._file.read((end - first) * self._dtype.itemsize), dtype=self._dtype)
