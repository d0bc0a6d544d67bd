import numpy as np
import pytest

from specialize.column import Column, as_array, compute_column

SIZES = [4, 0, 3, 5]
VALUES = np.arange(24).reshape(12, 2)


class Stored:
    """A column of `VALUES` that notes which of its chunks are read."""

    def __init__(self) -> None:
        self.read = []
        starts = np.append(0, np.cumsum(SIZES))

        def read(number):
            self.read.append(number)
            return VALUES[starts[number] : starts[number + 1]].astype(np.uint8)

        self.column = Column(
            SIZES, read, dtype=np.int16, width=2, convert=lambda rows, first, out: np.copyto(out, rows)
        )


def test_it_is_an_array():
    column = Stored().column
    assert (column.shape, column.ndim, column.size, len(column), column.dtype) == ((12, 2), 2, 24, 12, np.int16)
    for rows in (np.s_[:], np.s_[1:3], np.s_[3:9], np.s_[5:5], np.s_[-3:], np.s_[::2], [3, 1], 2, np.s_[1:4, 0]):
        np.testing.assert_array_equal(column[rows], VALUES[rows])
    np.testing.assert_array_equal(column >= 7, VALUES >= 7)
    np.testing.assert_array_equal(1 + column, 1 + VALUES)
    np.testing.assert_array_equal(np.asarray(column, dtype=float), VALUES)
    assert (column.min(), column.max(), column.sum(), column.tolist()) == (0, 23, 276, VALUES.tolist())
    with pytest.raises(AttributeError, match="median"):
        column.median()


@pytest.mark.parametrize(("held", "again"), [(0, [0, 2, 3]), (100, [])])
def test_slices_in_order_read_each_chunk_once(monkeypatch, held, again):
    monkeypatch.setattr("specialize.column.HELD_BYTES", held)
    stored = Stored()
    for first in range(0, 12, 2):
        np.testing.assert_array_equal(stored.column[first : first + 2], VALUES[first : first + 2])
    assert stored.read == [0, 2, 3]
    stored.column[0:12]
    assert stored.read == [0, 2, 3, *again]


def test_rows_in_order_are_taken_from_their_chunks():
    stored = Stored()
    for rows in ([0, 2, 2, 6], [9], [11, 0], [-1, 3]):
        np.testing.assert_array_equal(stored.column[np.array(rows)], VALUES[rows])
        if rows == [0, 2, 2, 6]:
            assert stored.read == [0, 2]
    with pytest.raises(IndexError):
        stored.column[np.array([3, 12])]


def test_a_computed_column(monkeypatch):
    monkeypatch.setattr("specialize.column.CHUNK_ROWS", 5)
    column = compute_column(12, lambda rows: VALUES[rows, 1], dtype=np.int64)
    np.testing.assert_array_equal(column[3:11], VALUES[3:11, 1])
    assert as_array(column) is column
    assert as_array([1, 2]).tolist() == [1, 2]
    assert compute_column(0, lambda rows: VALUES[rows], dtype=np.int64).shape == (0,)
