"""Columns that behave as arrays and are read from disk, or computed, a slice at a time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

CHUNK_ROWS = 2**17  # of a column that is computed
HELD_BYTES = 8 * 2**20  # of a column that is kept in memory as a whole


class Column(NDArrayOperatorsMixin):
    """An array that is stored in chunks, and not held in memory.

    A slice is read from the chunks that it lies in. The last chunk is kept, so that slices in ascending order read each
    chunk once, and so are all chunks of a small array. Rows in ascending order are taken chunk by chunk. Anything else
    that an array can do, such as arithmetic, reads all of it.

    Args:
        sizes: number of rows of each chunk.
        read: returns a chunk, as stored, by its number: an array, or what can be cut and has ``nbytes`` as one does.
        dtype: type of the rows as read.
        width: number of columns; None for a one-dimensional array.
        convert: writes rows of a chunk as they are read to an array; called with the rows, the row of the first one,
            and the array.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        read: Callable[[int], Any],
        *,
        dtype: DTypeLike,
        width: int | None = None,
        convert: Callable[[Any, int, NDArray[Any]], None] | None = None,
    ) -> None:
        self._starts = np.append(0, np.cumsum(np.asarray(sizes, dtype=np.int64)))
        self._read, self._convert = read, convert
        self._held: dict[int, Any] = {}
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.shape = (int(self._starts[-1]),) if width is None else (int(self._starts[-1]), width)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: all but the chunks that are held, which it can read."""
        return vars(self) | {"_held": {}}

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Column({self.dtype}, shape={self.shape})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self[:], name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [each[:] if isinstance(each, Column) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, rows: Any) -> Any:
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            return self._take(rows) if _is_ascending(rows, len(self)) else self[:][rows]
        first, end, _ = rows.indices(len(self))
        values = np.empty((max(end - first, 0), *self.shape[1:]), dtype=self.dtype)
        number = int(np.searchsorted(self._starts, first, side="right")) - 1
        while first < end:
            start, stop = int(self._starts[number]), min(int(self._starts[number + 1]), end)
            if stop == start:
                number += 1
                continue
            part = self._chunk(number)[first - start : stop - start]
            out = values[len(values) - (end - first) : len(values) - (end - stop)]
            if self._convert is not None:
                self._convert(part, first, out)
            elif len(part) == len(values):
                return part.astype(self.dtype, copy=False)
            else:
                out[:] = part
            first, number = stop, number + 1
        return values

    def _take(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Return rows in ascending order, reading the chunks that they lie in."""
        edges, values = np.searchsorted(rows, self._starts), np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for number, (first, end) in enumerate(pairwise(edges.tolist())):
            if end > first:
                start = int(self._starts[number])
                values[first:end] = self[start : int(self._starts[number + 1])][rows[first:end] - start]
        return values

    def min(self) -> Any:
        """Return the smallest value; there has to be one."""
        return min(self[rows].min() for rows in self._slices())

    def max(self) -> Any:
        """Return the largest value; there has to be one."""
        return max(self[rows].max() for rows in self._slices())

    def _slices(self) -> Iterator[slice]:
        for first, end in pairwise(self._starts.tolist()):
            if end > first:
                yield slice(first, end)

    def _chunk(self, number: int) -> Any:
        held = self._held.get(number)
        if held is None:
            held = self._read(number)
            rows = max(int(self._starts[number + 1] - self._starts[number]), 1)
            kept = self._held if len(self) * held.nbytes <= HELD_BYTES * rows else {}
            self._held = {**kept, number: held}
        return held


def compute_column(
    rows: int, compute: Callable[[slice], NDArray[Any]], *, dtype: DTypeLike, width: int | None = None
) -> Column:
    """Return a column that is computed a slice at a time.

    Args:
        rows: number of rows.
        compute: returns the values of a slice of rows.
        dtype: type of the values.
        width: number of columns; None for a one-dimensional array.
    """
    starts = range(0, rows, CHUNK_ROWS)
    sizes = [min(CHUNK_ROWS, rows - start) for start in starts]
    return Column(
        sizes, lambda number: compute(slice(starts[number], starts[number] + sizes[number])), dtype=dtype, width=width
    )


def _is_ascending(rows: Any, size: int) -> bool:
    """Return whether rows are an array of row numbers below ``size`` in ascending order."""
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iu" or rows.ndim != 1 or not len(rows):
        return False
    return bool(rows[0] >= 0 and rows[-1] < size and (rows[1:] >= rows[:-1]).all())


def as_array(values: Any) -> Any:
    """Return an array or a column as it is, and anything else as an array."""
    return values if isinstance(values, np.ndarray | Column) else np.asarray(values)
