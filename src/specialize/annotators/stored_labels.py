"""The column of labels in a file of an annotation, read a record batch at a time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL
from specialize.column import Column


class StoredLabels:
    """A file of an annotation, see `specialize.annotators.store`, whose labels are read when they are needed.

    The file stays open, so that what is read remains the same if another annotation takes its place.

    Args:
        path: of the file.

    Attributes:
        metadata: of the schema.
        labels: names of the labels.
        codes: int32 [n], a column.

    Raises:
        Exception: of any kind, if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.metadata = {key.decode(): value.decode() for key, value in (self._reader.schema.metadata or {}).items()}
        sizes = []
        self.labels: list[object] = []
        for number in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(number)
            batch.validate(full=True)
            sizes.append(batch.num_rows)
            self.labels = batch.column("label").dictionary.to_pylist()
        self.codes = Column(sizes, self._read, dtype=np.int32)

    def _read(self, number: int) -> NDArray[np.int32]:
        indices = self._reader.get_batch(number).column("label").indices
        return np.asarray(indices.fill_null(NO_LABEL).to_numpy(zero_copy_only=False), dtype=np.int32)
