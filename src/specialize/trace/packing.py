"""Ids of experts on disk, those of a token packed into one integer, so that reading them takes no decompression.

Ids are all but random bits: zstd would shorten bytes with unused bits to their number, but takes longer to read them
than counting takes. It stores packed ids as they are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.trace.schema import RouterSpec, bits_of_id, expert_dtype, packed_bytes

_WORD = np.dtype("<u8")
_NONE = np.empty(0, np.uint8)


@dataclass(frozen=True)
class PackedExperts:
    """The ids of a token's experts in one integer, of as many bytes as they need: little-endian, slot 0 lowest.

    Attributes:
        stored: uint8 [tokens, bytes].
        num_experts: E; an id has the bits of E - 1.
        top_k: k, the number of ids.
    """

    stored: NDArray[np.uint8]
    num_experts: int
    top_k: int

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, tokens: slice) -> "PackedExperts":
        return PackedExperts(self.stored[tokens], self.num_experts, self.top_k)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.stored.nbytes

    @property
    def bits(self) -> int:
        """Bits of an id."""
        return bits_of_id(self.num_experts)

    @property
    def always_valid(self) -> bool:
        """Whether any bits are ids of experts: E is a power of two."""
        return self.num_experts == 2**self.bits

    def words(self) -> NDArray[np.uint64]:
        """Return the integers, uint64 [tokens]; bits above those of the ids may have any value."""
        tokens, size = self.stored.shape
        words = np.empty(tokens, _WORD)
        # Read where they are: each ends with the first bytes of the next token. Only the last ones have no bytes left.
        whole = max(0, (self.stored.nbytes - _WORD.itemsize) // size + 1)
        if whole:
            words[:whole] = np.ndarray(whole, _WORD, self.stored.data, strides=(size,))
        if whole < tokens:
            rest = self.stored[whole:].tobytes() + bytes(_WORD.itemsize)
            words[whole:] = np.ndarray(tokens - whole, _WORD, rest, strides=(size,))
        return words

    def unpack(self) -> NDArray[np.unsignedinteger]:
        """Return the ids, uint8 or uint16 [tokens, k]."""
        ids: NDArray[Any] = np.empty((len(self), self.top_k), expert_dtype(self.num_experts))
        self.unpack_to(ids)
        return ids

    def unpack_to(self, ids: NDArray[np.integer]) -> None:
        """Write the ids to an array [tokens, k]."""
        from specialize.trace.unpacking import unpack_words  # compiles, which writing need not wait for

        unpack_words(self.words(), self.bits, ids)


def pack_experts(experts: NDArray[np.integer], router: RouterSpec) -> pa.FixedSizeBinaryArray | None:
    """Return ids as they are stored; None where they are not packed.

    That is where it would not shorten them, or a slot holds no expert, or one that the router does not have.

    Args:
        experts: ids [tokens, k].
        router: that chose them.
    """
    size = packed_bytes(router)
    if size is None or (experts.size and not 0 <= experts.min() <= experts.max() < router.num_experts):
        return None
    words = np.zeros(len(experts), _WORD)
    for slot in range(router.top_k):
        words |= experts[:, slot].astype(_WORD) << _WORD.type(slot * bits_of_id(router.num_experts))
    stored = np.ascontiguousarray(words.view(np.uint8).reshape(len(words), _WORD.itemsize)[:, :size])
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(stored), [None, pa.py_buffer(stored)])


def stored_experts(column: pa.ChunkedArray, router: RouterSpec) -> NDArray[np.unsignedinteger] | PackedExperts:
    """Return the ids of a column as they are stored: packed, or uint8 or uint16 [tokens, k].

    Args:
        column: of a routing shard.
        router: whose experts they are.
    """
    if not pa.types.is_fixed_size_binary(column.type):
        return rows_of(column, router.top_k)
    values, size = _whole(column), column.type.byte_width
    rows = len(values)
    stored = np.frombuffer(values.buffers()[1], np.uint8, rows * size, values.offset * size) if rows else _NONE
    return PackedExperts(stored.reshape(-1, size), router.num_experts, router.top_k)


def unpacked_experts(column: pa.ChunkedArray, router: RouterSpec) -> NDArray[np.unsignedinteger]:
    """Return the ids of a column, uint8 or uint16 [tokens, k]; the largest value of the type is no expert."""
    stored = stored_experts(column, router)
    return stored.unpack() if isinstance(stored, PackedExperts) else stored


def rows_of(column: pa.ChunkedArray, width: int) -> NDArray[Any]:
    """Return a column of lists as an array [rows, width]; without a copy where it is one chunk."""
    values: NDArray[Any] = _whole(column).flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
