"""Labels for the tokens or documents of a trace."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from specialize.errors import AnnotationError

NO_LABEL = -1


@dataclass(frozen=True)
class Annotation:
    """One label set for every token, or for every document, of a trace.

    Attributes:
        name: the label set, for instance ``"upos"`` or ``"bertopic"``.
        level: what carries a label.
        labels: the label names; ``codes`` index into it.
        codes: int32 [tokens] or [documents] in trace order; ``NO_LABEL`` where there is none
            (unaligned token, outlier document).
        provenance: how the labels were made (tool, version, options, seeds), JSON-serialisable.
    """

    name: str
    level: Literal["token", "document"]
    labels: tuple[str, ...]
    codes: NDArray[np.int32]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.ndim != 1:
            raise AnnotationError(f"annotation {self.name!r}: codes must be one-dimensional, got {self.codes.shape}")
        if self.codes.size and not (self.codes.min() >= NO_LABEL and self.codes.max() < len(self.labels)):
            raise AnnotationError(
                f"annotation {self.name!r}: codes must lie in [{NO_LABEL}, {len(self.labels)}), "
                f"got [{self.codes.min()}, {self.codes.max()}]"
            )

    @property
    def share_labelled(self) -> float:
        """Share of tokens or documents that carry a label."""
        return float((self.codes != NO_LABEL).mean()) if self.codes.size else 0.0
