"""The documents of a trace: how many tokens each has, and which of them belong together."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray


def count_tokens(shards: Iterable[pa.Table], num_documents: int) -> NDArray[np.int64]:
    """Count the tokens of each document, int64 [documents].

    Args:
        shards: tables whose first column is the document of each token, in the order of documents.
        num_documents: number of documents.
    """
    counts = np.zeros(num_documents, dtype=np.int64)
    for table in shards:
        documents = table.column(0).to_numpy()
        if len(documents):
            own = np.bincount(documents - documents[0])
            counts[documents[0] : documents[0] + len(own)] += own
    return counts


def take_documents(batches: Iterable[pa.RecordBatch], rows: NDArray[np.integer]) -> pa.Table:
    """Return some documents, while one batch of all is in memory at a time.

    Args:
        batches: documents.
        rows: numbers of the documents, distinct and in ascending order.
    """
    taken, first, schema = [], 0, None
    for batch in batches:
        own = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        taken.append(batch.take(pa.array(own, pa.int64())))
        first, schema = first + batch.num_rows, batch.schema
    return pa.Table.from_batches(taken, schema=schema)


def hash_groups(batches: Iterable[pa.RecordBatch], column: str | None) -> NDArray[np.int64]:
    """Return the group of each document: those with the same value in a column, otherwise those with the same text.

    A document without a value in the column is grouped by its text, one without a text is a group of its own. Numbers
    are hashes of the contents, so that they do not depend on the order of the corpus.

    Args:
        batches: documents, with the columns id, text and, where it is given, `column`.
        column: whose values say which documents belong together; None if there is none.

    Returns:
        int64 [documents].
    """
    groups: list[int] = []
    for batch in batches:
        names = [name for name in (column, "text", "id") if name is not None]
        values = (batch.column(name).to_pylist() for name in names)
        groups += [_number(names, row) for row in zip(*values, strict=True)]
    return np.array(groups, dtype=np.uint64).view(np.int64)


def _number(names: list[str], row: tuple[str | None, ...]) -> int:
    """Hash the first value that is there; the name before it keeps a text apart from an id of the same letters."""
    name, value = next((name, value) for name, value in zip(names, row, strict=True) if value or name == "id")
    return xxhash.xxh3_64_intdigest(f"{name}\0{value}".encode())
