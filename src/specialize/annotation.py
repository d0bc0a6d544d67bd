"""Labels for the tokens or documents of a trace."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from specialize.errors import AnnotationError

NO_LABEL = -1
_ROWS = 2**17  # of codes that are looked at together


@dataclass(frozen=True)
class Annotation:
    """One label set for every token, or for every document, of a trace.

    Attributes:
        name: name of the label set, for instance ``"upos"`` or ``"bertopic"``.
        level: whether tokens or documents are labelled.
        labels: names of the labels.
        codes: int32 [tokens] or [documents] in the order of the trace, indices into ``labels``; ``NO_LABEL`` (-1)
            where there is no label (unaligned token, outlier document). Those of tokens may be a column on disk, which
            behaves as an array, see `specialize.column`.
        provenance: how the labels were made (tool, version, options, seeds), JSON-serialisable.

    Raises:
        AnnotationError: ``codes`` is not one-dimensional or has values that are neither indices nor ``NO_LABEL``.
    """

    name: str
    level: Literal["token", "document"]
    labels: tuple[str, ...]
    codes: NDArray[np.int32]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.ndim != 1:
            raise AnnotationError(f"annotation {self.name!r}: expected codes [n], got shape {list(self.codes.shape)}")
        if self.codes.size and not (self.codes.min() >= NO_LABEL and self.codes.max() < len(self.labels)):
            raise AnnotationError(
                f"annotation {self.name!r}: expected codes from {NO_LABEL} to {len(self.labels) - 1}, "
                f"got {self.codes.min()} to {self.codes.max()}"
            )

    @property
    def share_labelled(self) -> float:
        """Share of tokens or documents that carry a label."""
        parts = (self.codes[first : first + _ROWS] for first in range(0, len(self.codes), _ROWS))
        return sum(int(np.count_nonzero(part != NO_LABEL)) for part in parts) / max(len(self.codes), 1)
