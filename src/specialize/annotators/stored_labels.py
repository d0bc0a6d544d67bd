"""The column of labels in a file of an annotation, read a record batch at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL
from specialize.column import Column


class StoredLabels:
    """A file of an annotation, see `specialize.annotators.store`.

    Args:
        path: of the file.
        on_disk: read labels when they are needed. The file stays open, so that what is read remains the same if another
            annotation takes its place.

    Attributes:
        metadata: of the schema.
        labels: names of the labels.
        codes: int32 [n], an array, or a column on disk.

    Raises:
        Exception: of any kind, if the file is damaged.
    """

    def __init__(self, path: Path, *, on_disk: bool = False) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.metadata = {key.decode(): value.decode() for key, value in (self._reader.schema.metadata or {}).items()}
        sizes, parts = [], [np.zeros(0, np.int32)]
        self.labels: list[object] = []
        for number in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(number)
            batch.validate(full=True)
            sizes.append(batch.num_rows)
            self.labels = batch.column("label").dictionary.to_pylist()
            if not on_disk:
                parts.append(_codes_of(batch))
        self.codes: Any = Column(sizes, self._read, dtype=np.int32) if on_disk else np.concatenate(parts)

    def _read(self, number: int) -> NDArray[np.int32]:
        return _codes_of(self._reader.get_batch(number))


def _codes_of(batch: pa.RecordBatch) -> NDArray[np.int32]:
    indices = batch.column("label").indices
    filled = indices.fill_null(NO_LABEL) if indices.null_count else indices  # the second is not copied
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int32)
