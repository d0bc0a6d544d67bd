"""Count experts as a trace stores them into tables [row, expert], by the selection rule.

Mass is spread while counting, so that no array of the size of the experts is allocated.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def number_rows(codes, documents, first_rows, last_row):  # type: ignore[no-untyped-def]
    """Return the row of a table for each token, uint32 [tokens]: that of its document's first label plus its label.

    Tokens without a label have the last row.
    """
    rows = np.empty(len(codes), dtype=np.uint32)
    for token in range(len(codes)):
        label = codes[token]
        rows[token] = first_rows[documents[token]] + label if label >= 0 else last_row
    return rows


def count_stored(table: NDArray[np.float64], rows: NDArray[np.uint32], experts: NDArray[np.unsignedinteger]) -> None:
    """Add tokens to a table [row, expert] by the selection rule, from experts in their stored type.

    Args:
        table: to add to; each token with an expert adds 1.
        rows: [tokens], the row of the table for each token.
        experts: uint8 or uint16 [tokens, k]; a slot whose number is not below that of the columns holds no expert.
    """
    if experts.max(initial=0) < table.shape[1]:
        _count_full(table.reshape(-1), np.uint64(table.shape[1]), rows, experts)
    else:
        _count_present(table, rows, experts)


def count_packed(
    table: NDArray[np.float64], rows: NDArray[np.uint32], words: NDArray[np.uint64], *, top_k: int, bits: int
) -> None:
    """Add tokens to a table [row, expert] by the selection rule, from experts that are packed.

    Args:
        table: to add to, with 2^bits columns; each token adds 1.
        rows: [tokens], the row of the table for each token.
        words: uint64 [tokens], the ids of a token's experts in its lowest bits.
        top_k: number of ids.
        bits: of an id.
    """
    _count_words(table.reshape(-1), rows, words, top_k, bits)


@njit(cache=True, nogil=True)
def _count_words(cells, rows, words, top_k, bits):  # type: ignore[no-untyped-def]
    """Add tokens to flat cells, where the places of a row are those of any ``bits`` bits."""
    step, even = np.uint64(bits), 1.0 / max(top_k, 1)
    mask = (np.uint64(1) << step) - np.uint64(1)
    for token in range(len(words)):
        first, word = np.uint64(rows[token]) << step, words[token]
        for _ in range(top_k):
            cells[first | (word & mask)] += even
            word >>= step


@njit(cache=True, nogil=True)
def _count_full(cells, width, rows, experts):  # type: ignore[no-untyped-def]
    """Add tokens with an expert in every slot; unsigned places of flat cells are not tested for being negative."""
    slots = experts.shape[1]
    even = 1.0 / max(slots, 1)
    for token in range(experts.shape[0]):
        first = np.uint64(rows[token]) * width
        for slot in range(slots):
            cells[first + np.uint64(experts[token, slot])] += even


@njit(cache=True, nogil=True)
def _count_present(table, rows, experts):  # type: ignore[no-untyped-def]
    """Add tokens some of whose slots may hold no expert."""
    for token in range(experts.shape[0]):
        present = 0
        for slot in range(experts.shape[1]):
            present += experts[token, slot] < table.shape[1]
        for slot in range(experts.shape[1]):
            if experts[token, slot] < table.shape[1]:
                table[rows[token], experts[token, slot]] += 1.0 / present
